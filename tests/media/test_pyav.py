"""What differs between the releases of PyAV: the real one that is installed, and `av.open` of the others as a mock."""

from fractions import Fraction
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
from repeating_network import Repeating

from pdan_plugin.errors import RequestError
from pdan_plugin.media.pyav import from_rgb, import_av, open_container, to_rgb
from pdan_plugin.media.video import restore_video
from pdan_plugin.media.video_source import read_video_header
from pdan_plugin.restoration.restorer import Restorer

HEIGHT, WIDTH = 48, 64
LATIN_1 = b'caf\xe9'  # no UTF-8
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue, by swscale's number


def colours():
    """Smooth, so that halving the chroma loses next to nothing; within what YCbCr of 16..235 can hold."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * rows, 200 - 2 * columns, 90 + rows + columns], axis=-1).astype(np.uint8)


def write(path, **tags):
    with open_container(str(path), 'w') as output:
        output.metadata['title'] = LATIN_1.decode('utf-8', 'surrogateescape')
        stream = output.add_stream('libx264', rate=20, options={'crf': '4'})
        coding = stream.codec_context
        coding.width, coding.height, coding.pix_fmt = WIDTH, HEIGHT, 'yuv420p'
        for name, value in tags.items():
            setattr(coding, name, value)
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(colours(), format='rgb24')))
        output.mux(stream.encode(None))
    return path


def test_a_video_is_written_and_read(tmp_path):
    path = write(tmp_path / 'in.mp4')
    with open_container(str(path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 3
    assert np.abs(to_rgb(frames[0], 'rgb24', 5, 1).to_ndarray().astype(int) - colours()).mean() < 3


@pytest.mark.parametrize('ending', ['.mp4', '.mkv'])
def test_a_tag_that_is_not_utf8_goes_into_the_result_byte_for_byte(tmp_path, ending):
    path = write(tmp_path / 'in.mp4')
    assert LATIN_1 in path.read_bytes()
    outcome = restore_video(Restorer(Repeating(2).eval(), 'cpu'), path, tmp_path / f'out{ending}')
    assert outcome.frames == 3
    assert LATIN_1 in (tmp_path / f'out{ending}').read_bytes()


def test_a_video_is_described_in_fractions(tmp_path):
    """PyAV 19 has a rational number of its own, which computes by rounding."""
    video = read_video_header(write(tmp_path / 'in.mp4', sample_aspect_ratio=Fraction(4, 3))).video
    assert video is not None
    assert video.pixel_aspect == Fraction(4, 3)
    assert {type(number) for number in (video.pixel_aspect, video.rate, video.time_base)} == {Fraction}


@pytest.mark.parametrize('color_range', [1, 2])
@pytest.mark.parametrize('matrix', [1, 5, 9])
def test_conversions_are_by_the_matrix_and_range_that_are_asked_for(matrix, color_range):
    red_weight, blue_weight = LUMA_WEIGHTS[matrix]
    red, green, blue = np.moveaxis(colours().astype(float), -1, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    planes = [luma, (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)]
    if color_range == 1:
        planes = [16 + planes[0] * 219 / 255, 128 + planes[1] * 224 / 255, 128 + planes[2] * 224 / 255]
    else:
        planes = [planes[0], 128 + planes[1], 128 + planes[2]]
    frame = from_rgb(av.VideoFrame.from_ndarray(colours(), format='rgb24'), 'yuv444p', matrix, color_range)
    for made, expected in zip(frame.to_ndarray(), planes, strict=True):
        assert np.abs(made - expected).max() < 1.6
    assert np.abs(to_rgb(frame, 'rgb24', matrix, color_range).to_ndarray().astype(int) - colours()).max() <= 3


@pytest.mark.skipif(not hasattr(av.VideoFrame, 'color_trc'), reason='frames have no transfer function before PyAV 17')
def test_reserved_colour_numbers_stop_no_conversion():
    frame = from_rgb(av.VideoFrame.from_ndarray(colours(), format='rgb24'), 'yuv420p', 5, 1)
    frame.color_primaries, frame.color_trc = 3, 0
    picture = to_rgb(frame, 'rgb24', 5, 1).to_ndarray()
    assert np.abs(picture.astype(int) - colours()).mean() < 3
    assert (int(frame.color_primaries), int(frame.color_trc)) == (3, 0)


def pyav_of(release, monkeypatch):
    """A mock of what `open_container` looks at, for the releases that cannot be installed beside the real one."""

    class Container:
        pass

    def open_19(file, mode='r', format=None, options=None):
        return SimpleNamespace(file=file, mode=mode, options=options, errors=None)

    def open_18(file, mode='r', format=None, options=None, metadata_errors='strict'):
        return SimpleNamespace(file=file, mode=mode, options=options, errors=metadata_errors)

    mock = ModuleType('av')
    mock.VideoFrame = type('VideoFrame', (), {} if release < 14.1 else {'rotation': 0})
    mock.container = SimpleNamespace(Container=Container)
    mock.__version__ = str(release)
    mock.open = open_19
    if release < 19:
        Container.metadata_errors = 'strict'
        mock.open = open_18
    monkeypatch.setitem(__import__('sys').modules, 'av', mock)


@pytest.mark.parametrize(('release', 'errors'), [(18, 'surrogateescape'), (19, None)])
def test_only_an_open_that_knows_metadata_errors_is_given_it(monkeypatch, release, errors):
    pyav_of(release, monkeypatch)
    opened = open_container('a.mp4', 'w', options={'movflags': '+faststart'})
    assert (opened.file, opened.mode, opened.options) == ('a.mp4', 'w', {'movflags': '+faststart'})
    assert opened.errors == errors
    assert open_container('a.mp4').mode == 'r'


def test_a_pyav_that_is_too_old_is_refused_with_advice(monkeypatch):
    pyav_of(14.0, monkeypatch)
    with pytest.raises(RequestError, match=r'need PyAV 14\.1 or newer; installed is 14\.0: pip install --upgrade av'):
        import_av()
