"""What a video has beside its pictures is kept, or reported: tracks of sound, titles, chapters, fonts, HDR metadata."""

from fractions import Fraction

import av
import pytest
from gliding_videos import HEIGHT, WIDTH, make_video, make_with_tones, read, restorer, view
from repeating_network import make_weights
from video_files import make_unknown_sound

from pdan_plugin.errors import RequestError
from pdan_plugin.media.pyav import disposition_of
from pdan_plugin.media.video import restore_video
from pdan_plugin.media.video_containers import RefusedStream, best_suffix, sound_for_other_suffix
from pdan_plugin.media.video_source import read_video_header
from pdan_plugin.restoration import restore_path
from pdan_plugin.restoration.jobs import make_plan

needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.InputContainer, 'chapters'), reason='PyAV reads chapters from 16 on'
)


def test_sound_that_mp4_cannot_hold_asks_for_mkv(tmp_path):
    source = make_video(tmp_path / 'in.mkv', [0, 30, 60], sound='wavpack')
    assert read_video_header(source).suffix == '.mkv'
    with pytest.raises(RequestError, match=r'sound of .* ends in \.mkv'):
        make_plan(source, tmp_path / 'out.mp4')
    restore_video(restorer(), source, tmp_path / 'out.mkv')
    assert read(tmp_path / 'out.mkv')[2] == read(source)[2]


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_sound_that_no_result_holds_is_left_out_with_a_note(tmp_path, ending, capsys):
    """As iPhones write it: a second track of a codec that FFmpeg does not know."""
    source = make_with_tones(tmp_path / 'in.mp4')
    first = read(source)[2]
    make_unknown_sound(source, 1)
    header = read_video_header(source)
    assert header.suffix == '.mp4'  # no other container for a track that is left out
    assert make_plan(source, tmp_path / f'out{ending}').jobs[0].target == tmp_path / f'out{ending}'
    assert restore_path(source, tmp_path / f'out{ending}', make_weights(tmp_path, 'repeating')) == 0
    assert 'Note: ' in (told := capsys.readouterr().out)
    assert 'left out: audio stream 2 (unknown), which no result can hold' in told
    with av.open(str(tmp_path / f'out{ending}')) as container:
        assert [stream.type for stream in container.streams] == ['video', 'audio']
    assert read(tmp_path / f'out{ending}')[2] == first


def test_the_container_is_chosen_by_the_sound_that_is_kept(tmp_path):
    """One track needs .mkv, another no result holds."""
    refused = {'.mp4': [RefusedStream(1, 'audio', 'wavpack'), RefusedStream(2, 'audio', 'unknown')],
               '.mkv': [RefusedStream(2, 'audio', 'unknown'), RefusedStream(3, 'subtitle', 'mov_text')]}  # fmt: skip
    assert best_suffix(refused) == '.mkv'
    assert [stream.index for stream in sound_for_other_suffix(refused, '.mp4')] == [1]
    assert sound_for_other_suffix(refused, '.mkv') == []
    assert best_suffix({'.mp4': [RefusedStream(1, 'audio', 'x')], '.mkv': [RefusedStream(1, 'audio', 'x')]}) == '.mp4'


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_dispositions_and_titles_are_kept(tmp_path, ending):
    def prepare(streams):
        streams[1].disposition, streams[2].disposition = 0, 0x1 | 0x8  # default, comment
        streams[2].metadata['title'] = 'Director'

    make_with_tones(tmp_path / 'in.mkv', prepare=prepare)
    outcome = restore_video(restorer(1), tmp_path / 'in.mkv', tmp_path / f'out{ending}')
    assert (outcome.notes, outcome.problems) == ([], [])
    with av.open(str(tmp_path / f'out{ending}')) as after:
        bits = [disposition_of(stream) & 0x9 for stream in after.streams]
        assert bits[1:] == [0, 9]
        assert ending == '.mp4' or after.streams[2].metadata['title'] == 'Director'


@needs_chapters
@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_chapters_fonts_and_tags_are_kept_or_told(tmp_path, ending):
    with av.open(str(tmp_path / 'in.mkv'), 'w') as output:
        stream = output.add_stream('libx264', rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        output.metadata.update({'title': 'Film', 'camera_owner': 'Ann'})
        base = Fraction(1, 1000)
        output.set_chapters([
            {'id': 1, 'start': 0, 'end': 200, 'time_base': base, 'metadata': {'title': 'One'}},
            {'id': 2, 'start': 200, 'end': 500, 'time_base': base, 'metadata': {'title': 'Two'}},
        ])  # fmt: skip
        output.add_attachment('letters.ttf', 'application/x-truetype-font', bytes(range(256)))
        for number in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(number), format='rgb24')))
        output.mux(stream.encode(None))
    outcome = restore_video(restorer(1), tmp_path / 'in.mkv', tmp_path / f'out{ending}')
    with av.open(str(tmp_path / f'out{ending}')) as after:
        chapters = [
            (round(chapter['start'] * Fraction(chapter['time_base']), 3),
             round(chapter['end'] * Fraction(chapter['time_base']), 3), chapter['metadata']['title'])
            for chapter in after.chapters()
        ]  # fmt: skip
        assert chapters == [(0, Fraction('0.2'), 'One'), (Fraction('0.2'), Fraction('0.5'), 'Two')]
        assert {key.lower(): value for key, value in after.metadata.items()}['title'] == 'Film'
        fonts = [stream.data for stream in after.streams if stream.type == 'attachment']
    if ending == '.mkv':
        assert fonts == [bytes(range(256))]
        assert outcome.notes == []
    else:
        assert 'left out: the attached file letters.ttf, which .mp4 cannot hold; .mkv can' in outcome.notes
        assert any(note.lower().startswith('left out: the tag camera_owner, which .mp4') for note in outcome.notes)
        assert len(outcome.notes) == 2


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
@pytest.mark.parametrize('codec', ['libx265', 'libx264'])
def test_hdr10_metadata_is_kept(tmp_path, codec, ending):
    display, light = 'G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)', '1000,400'
    names = ('master-display', 'max-cll') if codec == 'libx265' else ('mastering-display', 'cll')
    parameters = f'{names[0]}={display}:{names[1]}={light}'
    options = {'x265-params': f'log-level=error:{parameters}'} if codec == 'libx265' else {'x264-params': parameters}
    with av.open(str(tmp_path / 'in.mkv'), 'w') as output:
        stream = output.add_stream(codec, rate=20, options=options)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = 'yuv420p10le' if codec == 'libx265' else 'yuv420p'
        for number in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(number), format='rgb24')))
        output.mux(stream.encode(None))
    restore_video(restorer(1), tmp_path / 'in.mkv', tmp_path / f'out{ending}')
    video = read_video_header(tmp_path / f'out{ending}').video
    assert (video.mastering_display, video.content_light) == (display, light)
