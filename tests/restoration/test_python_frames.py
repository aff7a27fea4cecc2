"""The Python interface to videos: frames one by one, files, and what is refused."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from skimage import data

from pdan_plugin.errors import RequestError, WorkError

COLOUR = np.ascontiguousarray(data.astronaut()[100:109, 60:71])
RGBA = np.dstack([COLOUR, np.full((9, 11), 200, np.uint8)])


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """Six frames of 48 x 64 that brighten, each in a packet of its own, from 1 s on."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mkv'
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('mpeg4', rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        stream.codec_context.gop_size = 1
        stream.codec_context.time_base = Fraction(1, 10)
        for number in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format='rgb24')
            frame.pts = 10 + number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def test_frames_come_one_by_one(twice, clip):
    counts = []
    frames = list(twice.restore_frames(clip, lambda *count: counts.append(count)))
    assert [frame.pixels.shape for frame in frames] == [(96, 128, 3)] * 6
    np.testing.assert_allclose([frame.pixels.mean() for frame in frames], np.arange(6) * 40, atol=3)
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(6) / 10, atol=1e-3)
    assert not any(frame.is_repeated for frame in frames)
    assert [done for done, _ in counts] == [1, 2, 3, 4, 5, 6]
    first = next(twice.restore_frames(clip))  # a generator that is left early closes the file
    np.testing.assert_array_equal(first.pixels, frames[0].pixels)


def test_a_video_that_ends_early_gives_its_frames_and_then_says_so(twice, clip, tmp_path):
    cut = tmp_path / 'cut.mkv'
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    frames = []
    with pytest.raises(WorkError, match=r'cut\.mkv: the file ends early'):
        frames.extend(twice.restore_frames(cut))
    assert 0 < len(frames) < 6
    with pytest.raises(WorkError, match=r'out\.mkv is incomplete: the file ends early'):
        twice.restore_file(cut, tmp_path / 'out.mkv')
    assert len(list(twice.restore_frames(tmp_path / 'out.mkv'))) == len(frames)


def test_a_recording_behind_the_first_is_reported_after_its_frames(twice, tmp_path):
    with av.open(str(tmp_path / 'joined.mp4'), 'w') as output:
        stream = output.add_stream('mpeg4', rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * number, np.uint8), format='rgb24')
            output.mux(stream.encode(frame.reformat(format='yuv420p')))
        output.mux(stream.encode(None))
    content = (tmp_path / 'joined.mp4').read_bytes()
    (tmp_path / 'joined.mp4').write_bytes(2 * content)
    frames = []
    with pytest.raises(WorkError, match=rf'joined\.mp4: {len(content):,} bytes of the file are left out'):
        frames.extend(twice.restore_frames(tmp_path / 'joined.mp4'))
    assert len(frames) == 3


def test_a_video_becomes_a_video(twice, clip, tmp_path):
    counts = []
    done = twice.restore_file(clip, tmp_path, on_progress=lambda *count: counts.append(count))
    assert done.path == tmp_path / 'clip.mp4'
    assert counts[-1][0] == 6
    with av.open(str(done.path)) as video:
        assert [(frame.width, frame.height) for frame in video.decode(video=0)] == [(128, 96)] * 6


@pytest.mark.parametrize(('name', 'complaint'), [('absent.mp4', 'no such video'), ('text.mp4', 'cannot be opened')])
def test_what_is_no_video_is_refused_at_once(twice, tmp_path, name, complaint):
    (tmp_path / 'text.mp4').write_text('no video')
    with pytest.raises(RequestError, match=complaint):
        twice.restore_frames(tmp_path / name)


@pytest.mark.parametrize('ending', ['jpg', 'png', 'webp', 'tif'])
def test_a_picture_is_one_frame_as_it_is_shown(twice, tmp_path, ending):
    """As `restore_file` reads it: FFmpeg, which reads it too, leaves it as it is stored."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(RGBA if ending == 'png' else COLOUR).save(tmp_path / f'photo.{ending}', exif=exif)
    twice.restore_file(tmp_path / f'photo.{ending}', tmp_path / 'result.png')
    counts = []
    (frame,) = twice.restore_frames(tmp_path / f'photo.{ending}', lambda *count: counts.append(count))
    assert frame.pixels.shape == (22, 18, 3)
    np.testing.assert_array_equal(frame.pixels, np.asarray(Image.open(tmp_path / 'result.png').convert('RGB')))
    assert (frame.seconds, frame.duration, frame.is_repeated, counts) == (0, 0, False, [(1, 1)])


def test_a_damaged_picture_is_no_frame(twice, tmp_path):
    """FFmpeg fills what is missing with grey."""
    Image.fromarray(data.astronaut()).save(tmp_path / 'whole.jpg')
    (tmp_path / 'photo.jpg').write_bytes((tmp_path / 'whole.jpg').read_bytes()[:20000])
    with pytest.raises(RequestError, match=r'photo\.jpg: .*truncated'):
        twice.restore_frames(tmp_path / 'photo.jpg')


def test_an_animation_has_its_frames(twice, tmp_path):
    first, *others = (Image.fromarray(np.roll(COLOUR, step, axis=1)) for step in range(3))
    first.save(tmp_path / 'moving.gif', save_all=True, append_images=others, duration=100)
    frames = list(twice.restore_frames(tmp_path / 'moving.gif'))
    assert [frame.pixels.shape for frame in frames] == [(18, 22, 3)] * 3
