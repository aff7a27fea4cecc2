"""Interlaced videos: each frame is made progressive, at the time of its first field."""

import av
import numpy as np
import pytest
from video_files import interlaced_view, make_interlaced, view

from pdan_plugin.media.video_frames import FrameReader
from pdan_plugin.media.video_source import describe_video, open_video, picture_stream, upright_rgb

LUMA = np.array([0.299, 0.587, 0.114])


def read(path):
    """(times in frames, upright RGB pictures, number of interlaced frames)."""
    with open_video(path) as container:
        video = describe_video(container)
    with open_video(path) as container:
        reader = FrameReader(container, picture_stream(container), [], video.rate)
        items = [(item.time * video.time_base * video.rate, upright_rgb(item.frame, video, 'rgb24')) for item in reader]
    first = items[0][0]
    return [time - first for time, _ in items], [picture for _, picture in items], reader.deinterlacer.interlaced


def error(picture, expected):
    return np.abs((picture.astype(int) - expected) @ LUMA).mean()


@pytest.mark.parametrize('ending', ['mpg', 'mkv'])
@pytest.mark.parametrize('order', ['tff', 'bff'])
def test_a_frame_shows_its_first_field(tmp_path, order, ending):
    path = make_interlaced(tmp_path / f'in.{ending}', [order] * 8)
    times, pictures, interlaced = read(path)
    assert times == list(range(8))
    assert interlaced == 8
    for number, picture in enumerate(pictures):
        assert error(picture, view(4 * number)) < 7
        assert error(picture, interlaced_view(number, order)) > 10  # the two fields as they are stored


def test_progressive_frames_among_interlaced_ones_stay_as_they_are(tmp_path):
    orders = ['prog', 'prog', 'tff', 'tff', 'prog', 'bff', 'prog', 'prog', 'tff']
    form = {'codec': 'prores_ks', 'pix_fmt': 'yuv422p10le'}
    times, pictures, interlaced = read(make_interlaced(tmp_path / 'mixed.mov', orders, **form))
    _, plain, none = read(make_interlaced(tmp_path / 'plain.mov', ['prog'] * 9, **form))
    assert times == list(range(9))
    assert (interlaced, none) == (4, 0)
    for number, (order, picture) in enumerate(zip(orders, pictures, strict=True)):
        if order == 'prog':
            np.testing.assert_array_equal(picture, plain[number])
        else:
            assert error(picture, view(4 * number)) < 7


def test_ten_bits_in_422(tmp_path):
    """As cameras record it; the filter works on the frame's own format."""
    path = make_interlaced(tmp_path / 'in.mov', ['tff'] * 4, codec='prores_ks', pix_fmt='yuv422p10le')
    with open_video(path) as container:
        video = describe_video(container)
    with open_video(path) as container:
        reader = FrameReader(container, picture_stream(container), [], video.rate)
        frames = list(reader)
    assert reader.deinterlacer.interlaced == 4
    assert [item.frame.format.name for item in frames] == ['yuv422p10le'] * 4
    for number, item in enumerate(frames):
        assert error(upright_rgb(item.frame, video, 'rgb48le') / 257, view(4 * number)) < 7


def test_a_missing_frame_keeps_its_place_among_interlaced_ones(tmp_path):
    path = make_interlaced(tmp_path / 'in.mkv', ['tff'] * 8, codec='mpeg2video')
    with av.open(str(path)) as container:
        broken = [bytes(packet) for packet in container.demux(video=0) if packet.size][3]
    path.write_bytes(path.read_bytes().replace(broken, bytes(len(broken))))
    with open_video(path) as container:
        video = describe_video(container)
    with open_video(path) as container:
        items = list(FrameReader(container, picture_stream(container), [], video.rate))
    assert [round(item.time * video.time_base * 25) for item in items] == list(range(8))
    assert [number for number, item in enumerate(items) if item.frame is None] == [3]
    for number in (0, 1, 2, 4, 5, 6, 7):
        assert error(upright_rgb(items[number].frame, video, 'rgb24'), view(4 * number)) < 8
