"""Videos through a network: times, sound, colours and size are kept, and what is broken is told."""

import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from repeating_network import Repeating, make_weights
from skimage import data
from video_files import (
    add_tones,
    interlaced_view,
    make_interlaced,
    make_unknown_sound,
    set_display_matrix,
    write_tones,
)
from video_files import view as smooth_view

from pdan_plugin.errors import RequestError
from pdan_plugin.media.pyav import disposition_of
from pdan_plugin.media.video import restore_video
from pdan_plugin.media.video_containers import RefusedStream, best_suffix, sound_for_other_suffix
from pdan_plugin.media.video_source import VideoFileError, read_video_header
from pdan_plugin.media.video_writer import VideoWriter
from pdan_plugin.restoration import restore_path
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.several_devices import SeveralDevices

HEIGHT, WIDTH = 48, 64
TICKS = Fraction(1, 600)
PHOTO = np.ascontiguousarray(data.astronaut()[::4, ::4])  # 128 x 128


def restorer(upscale=2):
    return Restorer(Repeating(upscale).eval(), 'cpu')


def view(number, height=HEIGHT, width=WIDTH):
    """A window that glides over a photograph."""
    return np.ascontiguousarray(PHOTO[number : number + height, 10 + number : 10 + number + width])


def make_video(path, times, *, codec='mpeg4', sound=None, height=HEIGHT, width=WIDTH, pix_fmt='yuv420p', **tags):
    """A video with a frame at each of ``times`` (in 600ths of a second), and with a tone."""
    with av.open(str(path), 'w') as output:
        options = {'flags': '+qscale', 'global_quality': '236'} if codec == 'mpeg4' else {}
        stream = output.add_stream(codec, rate=20, options=options)
        coding = stream.codec_context
        coding.width, coding.height, coding.pix_fmt, coding.time_base = width, height, pix_fmt, TICKS
        coding.gop_size, coding.max_b_frames = 1, 0  # each frame by itself: a broken one breaks no other
        for name, value in tags.items():
            setattr(coding, name, value)
        tone = output.add_stream(sound, rate=16000, layout='mono') if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(view(number, height, width), format='rgb24')
            frame.pts, frame.time_base = time, TICKS
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if tone is not None:
            _add_tone(output, tone, seconds=(times[-1] + 30) * TICKS)
    return path


def _add_tone(output, stream, seconds):
    wave = (np.sin(np.arange(int(16000 * seconds)) * 0.2) * 8000).astype(np.int16)
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(wave[None], format='s16', layout='mono')
    frame.rate = 16000
    resampler = av.AudioResampler(stream.codec_context.format, 'mono', 16000, frame_size=1024)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))
    del fifo


def read(path):
    """Times in seconds, pictures and the packets of the sound."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        pictures = [
            np.rot90(frame.to_ndarray(format='rgb24'), round(frame.rotation / 90) % 4).astype(int) for frame in frames
        ]
    with av.open(str(path)) as container:
        sound = [bytes(packet) for packet in container.demux(audio=0) if packet.size] if container.streams.audio else []
    return times, pictures, sound


def break_packets(path, which):
    """Overwrites the contents of some pictures' packets."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in which:
        start, size = packets[number]
        content[start : start + size] = bytes(size)
    path.write_bytes(content)


REGULAR = [30 * number for number in range(12)]
VARIABLE = [0, 30, 45, 120, 130, 200, 290]


@pytest.mark.parametrize('times', [REGULAR, VARIABLE])
@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_times_length_sound_and_pictures_are_kept(tmp_path, times, ending):
    source = make_video(tmp_path / 'in.mp4', times, sound='aac')
    outcome = restore_video(restorer(), source, tmp_path / f'out{ending}')
    assert (outcome.frames, outcome.problems) == (len(times), [])
    (shown, pictures, sound), (old_shown, old_pictures, old_sound) = read(tmp_path / f'out{ending}'), read(source)
    assert shown == pytest.approx(old_shown, abs=0.001)
    assert sound == old_sound
    for picture, old in zip(pictures, old_pictures, strict=True):
        assert picture.shape == (2 * HEIGHT, 2 * WIDTH, 3)
        assert np.abs(picture[::2, ::2] - old).mean() < 4
    with av.open(str(source)) as before, av.open(str(tmp_path / f'out{ending}')) as after:
        assert after.duration == pytest.approx(before.duration, abs=60_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.mp4', f'out{ending}']


def test_a_broken_frame_is_stood_in_for_and_told(tmp_path, capsys):
    source = make_video(tmp_path / 'in.mp4', REGULAR, sound='aac')
    _, whole, old_sound = read(source)
    break_packets(source, [5, 6])
    weights = make_weights(tmp_path, 'repeating')
    assert restore_path(source, tmp_path / 'out', weights) == 1
    assert '2 frames could not be decoded, the first at 0.25 s' in capsys.readouterr().err
    times, pictures, sound = read(tmp_path / 'out/in.mp4')
    assert times == pytest.approx([time / 600 for time in REGULAR])
    assert sound == old_sound
    for number, shown in [(4, 4), (5, 4), (6, 4), (7, 7), (11, 11)]:
        assert np.abs(pictures[number][::2, ::2] - whole[shown]).mean() < 4


@pytest.mark.skipif(
    av.library_versions['libavcodec'] == (61, 19, 100),
    reason='the MPEG-4 decoder of FFmpeg 7.1.0 (PyAV 14) gives no picture after a broken first one',
)
def test_broken_frames_at_the_ends_do_not_shorten_it(tmp_path):
    source = make_video(tmp_path / 'in.mp4', REGULAR)
    break_packets(source, [0, 11])
    outcome = restore_video(restorer(), source, tmp_path / 'out.mp4')
    assert 'the first at 0.00 s' in outcome.problems[0]
    assert read(tmp_path / 'out.mp4')[0] == pytest.approx([time / 600 for time in REGULAR])


def test_a_file_that_breaks_off_is_restored_up_to_there(tmp_path):
    source = make_video(tmp_path / 'in.mkv', REGULAR)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    outcome = restore_video(restorer(), source, tmp_path / 'out.mp4')
    assert 'ends early, at' in outcome.problems[-1]
    assert 3 < outcome.frames < 9
    assert len(read(tmp_path / 'out.mp4')[0]) == outcome.frames


def test_what_is_no_video_says_why_and_leaves_nothing(tmp_path):
    (tmp_path / 'empty.mp4').write_bytes(b'')
    (tmp_path / 'text.mp4').write_text('Dear reader,\n' * 50)
    lost = make_video(tmp_path / 'lost.mp4', REGULAR)
    break_packets(lost, range(12))
    for name, reason in [('empty', 'is empty'), ('text', 'cannot be opened'), ('lost', 'no frame that can be')]:
        with pytest.raises(VideoFileError, match=reason):
            restore_video(restorer(), tmp_path / f'{name}.mp4', tmp_path / 'out.mp4')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['empty.mp4', 'lost.mp4', 'text.mp4']


def test_a_header_is_read_once_and_goes_along(tmp_path, monkeypatch):
    """The plan reads it, the restoration takes it: the file is opened for its header, and for its frames."""
    folder, opened = tmp_path / 'in', []
    folder.mkdir()
    for name in ('a.mp4', 'b.mkv'):
        make_video(folder / name, REGULAR[:3])
    av_open = av.open

    def counting(file, *arguments, **keywords):
        opened.append(str(file))
        return av_open(file, *arguments, **keywords)

    monkeypatch.setattr(av, 'open', counting)
    assert restore_path(folder, tmp_path / 'out', make_weights(tmp_path, 'repeating')) == 0
    assert sorted(name for name in opened if name.startswith(str(folder))) == sorted(
        str(folder / name) for name in ('a.mp4', 'a.mp4', 'b.mkv', 'b.mkv')
    )


def test_the_header_of_a_file_that_has_changed_is_read_again(tmp_path):
    source = make_video(tmp_path / 'in.mp4', REGULAR[:3])
    header = read_video_header(source)
    make_video(source, REGULAR[:4], height=HEIGHT + 16)
    outcome = restore_video(restorer(), source, tmp_path / 'out.mp4', header=header)
    assert outcome.frames == 4
    assert read(tmp_path / 'out.mp4')[1][0].shape == (2 * HEIGHT + 32, 2 * WIDTH, 3)


def test_a_turned_video_is_upright(tmp_path):
    """The matrix in the track header, as telephones write it: a quarter turn."""
    source = make_video(tmp_path / 'in.mp4', REGULAR[:3])
    content = bytearray(source.read_bytes())
    matrix = content.find(b'tkhd') + 4 + 40
    content[matrix : matrix + 36] = struct.pack('>9i', 0, 1 << 16, 0, -(1 << 16), 0, 0, HEIGHT << 16, 0, 1 << 30)
    source.write_bytes(content)
    restore_video(restorer(), source, tmp_path / 'out.mp4')
    picture = read(tmp_path / 'out.mp4')[1][0]
    assert picture.shape == (2 * WIDTH, 2 * HEIGHT, 3)
    assert np.abs(picture[::2, ::2] - np.rot90(view(0), -1)).mean() < 8


@pytest.mark.parametrize(('colorspace', 'color_range', 'primaries'), [(1, 1, 1), (5, 2, 2), (9, 1, 9)])
def test_colour_tags_are_kept_and_colours_are_right(tmp_path, colorspace, color_range, primaries):
    tags = {'colorspace': colorspace, 'color_range': color_range, 'color_primaries': primaries, 'color_trc': 1}
    source = make_video(tmp_path / 'in.mp4', REGULAR[:4], codec='libx264', **tags)
    restore_video(restorer(), source, tmp_path / 'out.mp4')
    with av.open(str(source)) as before, av.open(str(tmp_path / 'out.mp4')) as after:
        old, new = (next(container.decode(video=0)) for container in (before, after))
        names = ('colorspace', 'color_range', 'color_primaries', 'color_trc')
        coding = after.streams.video[0].codec_context  # before PyAV 17 a frame does not have all of them
        assert [int(getattr(coding, name)) for name in names] == [colorspace, color_range, primaries, 1]
        # the mean of a plane, as it is stored: no conversion of this test's own stands between
        for old_plane, new_plane in zip(old.planes, new.planes, strict=True):
            old_mean, new_mean = (plane_of(plane).mean() for plane in (old_plane, new_plane))
            assert abs(old_mean - new_mean) < 0.8


def plane_of(plane):
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def test_frames_larger_than_a_video_holds_are_refused_before_the_work(tmp_path):
    wide = make_video(tmp_path / 'wide.mkv', REGULAR[:1], codec='ffv1', height=1088, width=2080)
    with pytest.raises(VideoFileError, match='8320x4352, more than a video can hold'):
        restore_video(restorer(4), wide, tmp_path / 'wide.mp4')
    assert [path.name for path in tmp_path.iterdir() if 'wide.mp4' in path.name] == []


def test_odd_sizes_and_ten_bits(tmp_path):
    odd = make_video(tmp_path / 'odd.mkv', REGULAR[:3], codec='ffv1', height=33, width=47, pix_fmt='yuv444p')
    outcome = restore_video(restorer(1), odd, tmp_path / 'odd.mp4')
    assert 'odd' in outcome.notes[0]
    assert read(tmp_path / 'odd.mp4')[1][0].shape == (34, 48, 3)
    deep = make_video(tmp_path / 'deep.mkv', REGULAR[:3], codec='ffv1', pix_fmt='yuv420p10le')
    restore_video(restorer(), deep, tmp_path / 'deep.mp4')
    with av.open(str(tmp_path / 'deep.mp4')) as after, av.open(str(deep)) as before:
        assert after.streams.video[0].codec_context.pix_fmt == 'yuv420p10le'
        old, new = (next(container.decode(video=0)).to_ndarray(format='gray16le') for container in (before, after))
    assert np.abs(new[::2, ::2].astype(int) - old).mean() < 3 * 256


def test_sound_that_mp4_cannot_hold_asks_for_mkv(tmp_path):
    source = make_video(tmp_path / 'in.mkv', REGULAR[:3], sound='wavpack')
    assert read_video_header(source).suffix == '.mkv'
    with pytest.raises(RequestError, match=r'sound of .* ends in \.mkv'):
        make_plan(source, tmp_path / 'out.mp4')
    restore_video(restorer(), source, tmp_path / 'out.mkv')
    assert read(tmp_path / 'out.mkv')[2] == read(source)[2]


def test_a_folder_of_both(tmp_path, capsys):
    source = tmp_path / 'in'
    source.mkdir()
    make_video(source / 'clip.mp4', REGULAR[:3])
    (source / 'text.mov').write_text('Dear reader,')
    Image.fromarray(view(0)).save(source / 'photo.png')
    weights = make_weights(tmp_path, 'repeating')
    assert restore_path(source, tmp_path / 'out', weights) == 1
    told = capsys.readouterr()
    assert '2 of 3 restored' in told.out
    assert 'text.mov: cannot be opened as a video' in told.err
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['clip.mp4', 'photo.png', 'restore.json']
    (source / 'text.mov').unlink()
    assert restore_path(source, tmp_path / 'out', weights) == 0
    assert '2 already done' in capsys.readouterr().out


def test_without_pyav_the_request_is_refused_with_advice(tmp_path, monkeypatch):
    source = make_video(tmp_path / 'in.mp4', REGULAR[:2])
    monkeypatch.setitem(__import__('sys').modules, 'av', None)
    with pytest.raises(RequestError, match='pip install av'):
        make_plan(source, tmp_path / 'out')


@pytest.mark.parametrize(
    ('first', 'told'), [(2, '3 frames are not opaque, the first at 0.10 s: the result cannot hold'), (5, None)]
)
def test_transparency_that_is_lost_is_told(tmp_path, first, told):
    """PNG in QuickTime, of five frames opaque up to ``first``; one that is opaque all through loses nothing."""
    with av.open(str(tmp_path / 'in.mov'), 'w') as output:
        stream = output.add_stream('png', rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'rgba'
        for number in range(5):
            alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
            alpha[:5] = 40 if number >= first else 255
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.dstack([view(number), alpha]), format='rgba')))
        output.mux(stream.encode(None))
    outcome = restore_video(restorer(), tmp_path / 'in.mov', tmp_path / 'out.mp4')
    assert outcome.frames == 5
    assert [note.startswith(told) for note in outcome.notes] == ([True] if told else [])


def test_transparency_that_is_not_decoded_is_told(tmp_path):
    """VP9 in WebM keeps it beside the pictures, and says so."""
    with av.open(str(tmp_path / 'in.webm'), 'w') as output:
        stream = output.add_stream('libvpx-vp9', rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        stream.metadata['alpha_mode'] = '1'
        output.mux(stream.encode(av.VideoFrame.from_ndarray(view(0), format='rgb24')))
        output.mux(stream.encode(None))
    outcome = restore_video(restorer(), tmp_path / 'in.webm', tmp_path / 'out.mp4')
    assert any('transparency of video stream 0' in note for note in outcome.notes)


@pytest.mark.parametrize('number', range(8))
def test_a_display_matrix_mirrors_and_turns(tmp_path, number):
    """All eight; the pictures are as the matrix says, and the result has no matrix any more."""
    from test_orientation import EIGHT, shown

    source = make_video(tmp_path / 'in.mov', REGULAR[:2])
    set_display_matrix(source, *EIGHT[number])
    restore_video(restorer(), source, tmp_path / 'out.mp4')
    with av.open(str(tmp_path / 'out.mp4')) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        picture = frame.to_ndarray(format='rgb24')
    assert np.abs(picture[::2, ::2].astype(int) - shown(view(0), *EIGHT[number])).mean() < 8


def test_an_interlaced_video_is_deinterlaced_and_told(tmp_path):
    source = make_interlaced(tmp_path / 'in.mpg', ['tff'] * 6)
    outcome = restore_video(restorer(1), source, tmp_path / 'out.mp4')
    assert (outcome.frames, outcome.problems) == (6, [])
    assert outcome.notes == ['6 frames are interlaced: deinterlaced, one frame for each']
    for number, picture in enumerate(read(tmp_path / 'out.mp4')[1]):
        expected = smooth_view(4 * number).astype(int)
        assert np.abs(picture - expected).mean() < 12
        assert np.abs(picture - interlaced_view(number, 'tff')).mean() > 12


def make_recording(path, *, count=25, sound=True, codec='mp2', start=0.0, first=0, height=HEIGHT, width=WIDTH):
    """A transport stream: ``count`` frames of 40 ms with B-frames, and a tone."""
    with av.open(str(path), 'w', format='mpegts', options={'output_ts_offset': str(start)}) as output:
        options = {'flags': '+qscale', 'global_quality': '236', 'bf': '2'}
        stream = output.add_stream('mpeg2video', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        tones = add_tones(output, 1, count * 0.04, codec=codec) if sound else []
        for number in range(count):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(first + number, height, width), format='rgb24')))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path


def joined(path, *parts):
    path.write_bytes(b''.join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
@pytest.mark.parametrize('sound', [True, False])
@pytest.mark.parametrize('start', [0, 300, 95442.5])  # of the second: the same clock, an hour later, and across a wrap
def test_joined_recordings_play_one_after_the_other(tmp_path, start, sound, ending):
    one = make_recording(tmp_path / 'one.ts', sound=sound)
    two = make_recording(tmp_path / 'two.ts', sound=sound, start=start, first=25)
    source = joined(tmp_path / 'in.ts', one, two)
    outcome = restore_video(restorer(1), source, tmp_path / f'out{ending}')
    assert (outcome.frames, outcome.problems) == (50, [])
    assert any('its times jump at' in note for note in outcome.notes)
    times, pictures, packets = read(tmp_path / f'out{ending}')
    steps = np.diff(times)
    assert len(times) == 50
    assert np.delete(steps, 24) == pytest.approx(0.04, abs=0.0015)
    assert 0.038 < steps[24] < 0.1  # the sound of the first may be a little longer than its pictures
    for number in (0, 24, 25, 49):
        assert np.abs(pictures[number] - view(number)).mean() < 12
    if sound:
        assert packets == read(one)[2] + read(two)[2]
        with av.open(str(tmp_path / f'out{ending}')) as container:
            shown = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
        assert (np.diff(shown) >= 0).all()
        assert np.abs(np.array(shown[45:]) - (times[25] + 0.024 * np.arange(len(shown) - 45)))[0] < 0.3
        assert shown[-1] == pytest.approx(times[-1], abs=0.15)


def test_recordings_with_a_pause_and_four_clocks(tmp_path):
    parts = [make_recording(tmp_path / f'{start}.ts', start=start, count=10) for start in (500, 0, 520, 90000)]
    outcome = restore_video(restorer(1), joined(tmp_path / 'in.ts', *parts), tmp_path / 'out.mp4')
    assert outcome.frames == 40
    times = read(tmp_path / 'out.mp4')[0]
    assert np.diff(times).max() < 0.11
    assert times[-1] < 2


@pytest.mark.parametrize('sound', [True, False])
def test_a_size_that_changes_keeps_what_is_finished(tmp_path, sound):
    one = make_recording(tmp_path / 'one.ts', sound=sound)
    two = make_recording(tmp_path / 'two.ts', sound=sound, height=HEIGHT - 16)
    outcome = restore_video(restorer(), joined(tmp_path / 'in.ts', one, two), tmp_path / 'out.mp4')
    assert outcome.frames == 25
    assert len(outcome.problems) == 1
    assert 'changes its size from 64x48 to 64x32; cut the video where the size changes (at 1.' in outcome.problems[0]
    assert len(read(tmp_path / 'out.mp4')[0]) == 25


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_damaged_sound_costs_its_packets_alone(tmp_path, ending):
    source = make_recording(tmp_path / 'in.ts', codec='aac', count=50)
    whole = read(source)[2]
    content = bytearray(source.read_bytes())
    for at in range(int(0.4 * len(content)) // 188 * 188, int(0.6 * len(content)), 188):
        if content[at + 1] & 0x1F == 1 and content[at + 2] == 1:  # a packet of the second stream
            content[at + 20 : at + 188] = bytes(168)
    source.write_bytes(content)
    outcome = restore_video(restorer(1), source, tmp_path / f'out{ending}')
    assert outcome.frames == 50
    reported = 'packets of audio stream 1 cannot be copied and are left out, the first at'
    assert any(reported in each for each in outcome.problems)
    times, _, sound = read(tmp_path / f'out{ending}')
    assert len(times) == 50
    assert len(whole) // 2 < len(sound) < len(whole)


def make_with_tones(path, count=2, prepare=lambda streams: None):
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('libx264', rate=20)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        tones = add_tones(output, count, 0.5)
        prepare(output.streams)
        for number in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(view(number), format='rgb24')))
        output.mux(stream.encode(None))
        write_tones(output, tones)
    return path


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


needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.InputContainer, 'chapters'), reason='PyAV reads chapters from 16 on'
)


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


def test_a_name_with_colons_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(tmp_path / 'in.mp4', REGULAR[:3], sound='aac')
    name = Path('2024-01-01T12:30:00.mp4')
    (tmp_path / 'in.mp4').rename(name)
    weights = make_weights(tmp_path, 'repeating')
    assert restore_path(name, Path('out:1.mp4'), weights) == 0
    assert len(read(tmp_path / 'out:1.mp4')[0]) == 3
    assert restore_path(name, Path('out'), weights) == 0
    assert len(read(tmp_path / 'out' / name)[0]) == 3


def test_a_raw_dv_file_has_its_real_frame_rate(tmp_path):
    """FFmpeg's mean rate of one is 60000; with it an .mp4 could not be written."""
    with av.open(str(tmp_path / 'in.dv'), 'w') as output:
        stream = output.add_stream('dvvideo', rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, 'yuv420p'
        for number in range(3):
            picture = np.ascontiguousarray(np.tile(view(number), (12, 12, 1))[:576, :720])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        output.mux(stream.encode(None))
    assert read_video_header(tmp_path / 'in.dv').video.rate == 25
    outcome = restore_video(restorer(1), tmp_path / 'in.dv', tmp_path / 'out.mp4')
    assert (outcome.frames, outcome.problems) == (3, [])


class StoppedAt(Repeating):
    """Raises at a frame, when earlier ones are on their way through the encoder."""

    def __init__(self, frame, error):
        super().__init__(2)
        self.left, self.error = frame, error

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if x.shape[-1] == WIDTH:
            self.left -= 1
            if self.left < 0:
                raise self.error
        return super().forward(x)


@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('the network fails')])
def test_what_ends_a_video_in_the_middle_leaves_nothing(tmp_path, error):
    source = make_video(tmp_path / 'in.mp4', REGULAR)
    with pytest.raises(type(error)):
        restore_video(Restorer(StoppedAt(7, error).eval(), 'cpu'), source, tmp_path / 'out.mp4')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.mp4']
    assert not [each.name for each in threading.enumerate() if each.name in ('reading ahead', 'writing behind')]


def test_a_disk_that_is_full_in_the_middle_is_an_error_of_the_target(tmp_path, monkeypatch):
    """A mock of a disk: the encoder's output fails after some frames."""
    source = make_video(tmp_path / 'in.mp4', REGULAR)
    encode, left = VideoWriter._encode, [6]

    def fail(self, item):
        left[0] -= 1
        if left[0] < 0:
            raise av.OSError(28, 'No space left on device', 'out.mp4')
        encode(self, item)

    monkeypatch.setattr(VideoWriter, '_encode', fail)
    with pytest.raises(OSError, match='cannot be written: No space left') as raised:
        restore_video(restorer(), source, tmp_path / 'out.mp4')
    assert raised.value.errno == 28
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.mp4']


def test_frames_shared_over_several_workers_are_in_order(tmp_path):
    source = make_video(tmp_path / 'in.mp4', REGULAR, sound='aac')
    restore_video(restorer(), source, tmp_path / 'one.mp4')
    with SeveralDevices([restorer() for _ in range(3)]) as several:
        outcome = restore_video(several, source, tmp_path / 'three.mp4')
    assert outcome.frames == len(REGULAR)
    assert (tmp_path / 'one.mp4').read_bytes() == (tmp_path / 'three.mp4').read_bytes()


def test_cudnn_searches_for_the_fastest_algorithms_of_the_frames(tmp_path):
    """Only the flag of the search is looked at: this machine has no GPU."""
    source = make_video(tmp_path / 'in.mp4', REGULAR)
    one, searching = restorer(), []
    begin = one.begin_pictures
    one.begin_pictures = lambda *given: (searching.append(torch.backends.cudnn.benchmark), begin(*given))[1]
    before = torch.backends.cudnn.benchmark
    restore_video(one, source, tmp_path / 'out.mp4')
    assert set(searching) == {True}
    assert torch.backends.cudnn.benchmark is before
