"""Videos through a network: times, sound, colours and size are kept, and what is broken is told."""

import struct
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from gliding_videos import (
    HEIGHT,
    WIDTH,
    break_packets,
    make_video,
    read,
    restorer,
    view,
)
from PIL import Image
from repeating_network import Repeating, make_weights
from video_files import (
    interlaced_view,
    make_interlaced,
    set_display_matrix,
)
from video_files import view as smooth_view

from pdan_plugin.errors import RequestError
from pdan_plugin.media.video import restore_video
from pdan_plugin.media.video_source import VideoFileError, read_video_header
from pdan_plugin.media.video_writer import VideoWriter
from pdan_plugin.restoration import restore_path
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.several_devices import SeveralDevices

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
