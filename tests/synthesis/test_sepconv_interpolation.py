"""Adaptive separable convolution: the filter against a loop, the published files' names, and recursive halving."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.sepconv_interpolation import SepconvInterpolation, SepconvNetwork, separable_convolution

CENTRE = 25


def published_shapes(prefix: str = 'module') -> dict[str, tuple[int, ...]]:
    """The names and shapes of the tensors in the authors' files, written out from the published description."""
    three = {
        'Conv1': (6, 32),
        'Conv2': (32, 64),
        'Conv3': (64, 128),
        'Conv4': (128, 256),
        'Conv5': (256, 512),
        'Deconv5': (512, 512),
        'Deconv4': (512, 256),
        'Deconv3': (256, 128),
        'Deconv2': (128, 64),
    }
    convolutions = {
        f'{part}.{2 * place}': (after if place else before, after)
        for part, (before, after) in three.items()
        for place in range(3)
    }
    convolutions |= {f'Upsample{level}.1': (width, width) for level, width in ((5, 512), (4, 256), (3, 128), (2, 64))}
    for part in ('Vertical1', 'Vertical2', 'Horizontal1', 'Horizontal2'):
        convolutions |= {f'{part}.0': (64, 64), f'{part}.2': (64, 64), f'{part}.4': (64, 51), f'{part}.7': (51, 51)}
    shapes = {}
    for name, (before, after) in convolutions.items():
        shapes[f'{prefix}{name}.weight'] = (after, before, 3, 3)
        shapes[f'{prefix}{name}.bias'] = (after,)
    return shapes


def empty_state(prefix: str = 'module') -> dict[str, torch.Tensor]:
    """All zeros, and small on the disk: each tensor is one number expanded."""
    return {name: torch.zeros(()).expand(shape) for name, shape in published_shapes(prefix).items()}


def put(state: dict[str, torch.Tensor], name: str, values: dict[tuple[int, ...], float]) -> None:
    tensor = state[name].clone()
    for place, value in values.items():
        tensor[place] = value
    state[name] = tensor


def picking(*, share: float, rows: int = 0, columns: int = 0, prefix: str = 'module') -> dict[str, torch.Tensor]:
    """Weights of kernels that are the same everywhere: ``share`` of the first frame's pixel at an offset, the rest of
    the second frame's pixel at the opposite one."""
    state = empty_state(prefix)
    for frame, part, sign in ((1, share, 1), (2, 1 - share, -1)):
        put(state, f'{prefix}Vertical{frame}.7.bias', {(CENTRE + sign * rows,): 1.0})
        put(state, f'{prefix}Horizontal{frame}.7.bias', {(CENTRE + sign * columns,): part})
    return state


@pytest.fixture
def interpolation(tmp_path):
    def made(state: object) -> SepconvInterpolation:
        path = tmp_path / 'network.pytorch'
        torch.save(state, path)
        return SepconvInterpolation(path, 'cpu')

    return made


@pytest.fixture(scope='module')
def random_file(tmp_path_factory) -> Path:
    """Random weights of a size that keeps the signal, so that kernels differ from pixel to pixel."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, shape in published_shapes().items():
        spread = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.05
        state[name] = torch.randn(shape, generator=generator) * spread
    path = tmp_path_factory.mktemp('weights') / 'network-l1.pytorch'
    torch.save(state, path)
    return path


def photo(height: int, width: int, left: int = 100) -> np.ndarray:
    return data.astronaut()[60 : 60 + height, left : left + width].copy()


@pytest.mark.parametrize(('taps', 'height', 'width'), [(51, 3, 70), (5, 4, 32), (4, 2, 1)])
def test_every_pixel_is_filtered_by_its_own_column_and_row(taps, height, width):
    image = torch.rand(3, height + taps - 1, width + taps - 1)
    vertical, horizontal = torch.randn(2, taps, height, width)
    expected = torch.empty(3, height, width)
    for y in range(height):
        for x in range(width):
            kernel = torch.outer(vertical[:, y, x], horizontal[:, y, x])
            expected[:, y, x] = (image[:, y : y + taps, x : x + taps] * kernel).sum((1, 2))
    torch.testing.assert_close(separable_convolution(image, vertical, horizontal), expected, rtol=1e-5, atol=1e-4)


def test_a_published_file_interpolates_frames_of_any_size(random_file):
    method = SepconvInterpolation(random_file, 'cpu')
    first, second = photo(37, 53), photo(37, 53, left=104)
    frames = list(method.between(first, second, 4))
    assert [(frame.shape, frame.dtype) for frame in frames] == [((37, 53, 3), np.uint8)] * 3
    assert frames[1].std() > 1  # the weights do something
    assert all(frame.flags.c_contiguous for frame in frames)
    (alone,) = method.between(first, second, 2)
    assert np.array_equal(alone, frames[1])
    again = SepconvInterpolation(random_file, 'cpu')
    assert all(map(np.array_equal, frames, again.between(first, second, 4)))
    (one_pixel,) = method.between(first[:1, :1], second[:1, :1], 2)
    assert one_pixel.shape == (1, 1, 3)


def test_both_spellings_of_the_names_are_the_same_weights(interpolation):
    first, second = photo(20, 30), photo(20, 30, left=200)
    (older,) = interpolation(picking(share=0.25)).between(first, second, 2)
    (newer,) = interpolation(picking(share=0.25, prefix='net')).between(first, second, 2)
    assert np.array_equal(older, newer)
    assert np.abs(older - (0.25 * first + 0.75 * second)).max() < 0.51


def test_halves_are_halved_again_in_order(interpolation):
    # multiples of eight, so that every frame is whole grey levels
    first, second = photo(33, 40) // 8 * 8, photo(33, 40, left=200) // 8 * 8
    frames = list(interpolation(picking(share=0.5)).between(first, second, 8))
    expected = [first + (second.astype(float) - first) * number / 8 for number in range(1, 8)]
    assert np.array_equal(frames, expected)


def test_a_halfway_frame_is_halved_as_the_network_made_it(interpolation):
    first, second = np.full((8, 8, 3), 2, np.uint8), np.zeros((8, 8, 3), np.uint8)
    levels = [int(frame[0, 0, 0]) for frame in interpolation(picking(share=0.8)).between(first, second, 4)]
    # halfway 1.6; between 2 and 1.6, 1.92; between 1.6 and 0, 1.28 (between the rounded 2 and 0 it would be 1.6)
    assert levels == [2, 2, 1]


def test_kernels_reach_down_and_right_and_edges_are_repeated(interpolation):
    first, second = photo(40, 60), photo(40, 60, left=200)
    (frame,) = interpolation(picking(share=0.5, rows=20, columns=7)).between(first, second, 2)
    around = ((25, 25), (25, 25), (0, 0))
    down = np.pad(first, around, mode='edge')[45:85, 32:92].astype(float)
    up = np.pad(second, around, mode='edge')[5:45, 18:78]
    assert np.abs(frame - (down + up) / 2).max() < 0.51


def test_the_network_is_given_blue_first_and_one_for_white(interpolation):
    """Weights that carry the first channel of the first frame through to the kernel: it multiplies the frame."""
    state = empty_state()
    for name in ('Conv1.0', 'Conv1.2', 'Conv1.4', 'Conv2.0', 'Conv2.2', 'Conv2.4'):
        put(state, f'module{name}.weight', {(0, 0, 1, 1): 1.0})
    for name in ('Vertical1.0', 'Vertical1.2', 'Vertical1.4'):
        put(state, f'module{name}.weight', {(0, 0, 1, 1): 1.0})
    put(state, 'moduleVertical1.7.weight', {(CENTRE, 0, 1, 1): 1.0})
    put(state, 'moduleHorizontal1.7.bias', {(CENTRE,): 1.0})
    first = np.full((9, 9, 3), (200, 100, 51), np.uint8)
    (frame,) = interpolation(state).between(first, np.zeros_like(first), 2)
    assert np.array_equal(frame, np.full((9, 9, 3), (40, 20, 10)))


def test_what_passes_black_and_white_is_clipped(interpolation):
    bright, dark = np.full((8, 8, 3), 250, np.uint8), np.full((8, 8, 3), 10, np.uint8)
    method = interpolation(picking(share=2.0))
    assert (next(method.between(bright, dark, 2)) == 255).all()
    assert (next(method.between(dark, bright, 2)) == 0).all()


def test_frames_that_do_not_differ_are_given_back(interpolation):
    still = photo(20, 30)
    frames = list(interpolation(empty_state()).between(still, still.copy(), 4))  # weights that make black
    assert len(frames) == 3
    assert all(np.array_equal(frame, still) and frame is not still for frame in frames)


def test_a_frame_is_made_when_it_is_asked_for(interpolation, monkeypatch):
    made = []
    forward = SepconvNetwork.forward

    def counted(*arguments):
        made.append(1)
        return forward(*arguments)

    monkeypatch.setattr(SepconvNetwork, 'forward', counted)
    frames = interpolation(picking(share=0.5)).between(photo(8, 8), photo(8, 8, left=200), 8)
    assert [len(made) for _ in frames] == [3, 3, 4, 4, 6, 6, 7]


def test_settings_name_the_file_by_its_content(random_file, interpolation):
    settings = SepconvInterpolation(random_file, 'cpu').settings
    assert json.loads(json.dumps(settings)) == settings
    assert settings['method'] == 'sepconv'
    assert settings['torch'] == torch.__version__
    assert len(settings['weights_sha256']) == 64
    assert interpolation(empty_state()).settings['weights_sha256'] != settings['weights_sha256']


@pytest.mark.parametrize(('count', 'nearest'), [(3, '2 and 4'), (12, '8 and 16'), (0, 'the least is 1')])
def test_other_factors_than_powers_of_two_are_refused_at_once(interpolation, count, nearest):
    method = interpolation(empty_state())
    with pytest.raises(RequestError, match=f'not {count}.*{nearest}'):
        method.between(photo(8, 8), photo(8, 8, left=200), count)
    assert list(method.between(photo(8, 8), photo(8, 8, left=200), 1)) == []


@pytest.mark.parametrize('second', [photo(8, 9), photo(8, 8).astype(np.float32), photo(8, 8)[..., 0]])
def test_frames_that_do_not_fit_are_refused(interpolation, second):
    with pytest.raises(RequestError, match=r'uint8 \(8, 8, 3\) and'):
        interpolation(empty_state()).between(photo(8, 8), second, 2)


def test_without_weights_it_says_which_and_where_from():
    with pytest.raises(RequestError, match=r'network-l1\.pytorch .*sniklaus/sepconv-slomo.*--weights FILE'):
        SepconvInterpolation(None, 'cpu')


def without_a_bias(state):
    del state['moduleConv2.2.bias']


def with_a_stranger(state):
    state['fc.weight'] = torch.zeros(3)


def with_fewer_taps(state):
    state['moduleVertical1.7.bias'] = torch.zeros(25)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (without_a_bias, r'moduleConv2\.2\.bias is missing'),
        (with_a_stranger, r'fc\.weight is not part of it'),
        (with_fewer_taps, r'moduleVertical1\.7\.bias is \(25,\) and should be \(51,\)'),
    ],
)
def test_other_weights_are_refused_by_their_first_wrong_names(interpolation, change, message):
    state = empty_state()
    change(state)
    with pytest.raises(RequestError, match=rf'network\.pytorch: not the weights of sepconv: {message}\. '):
        interpolation(state)


def test_a_wholly_different_file_is_told_in_few_words(interpolation):
    with pytest.raises(RequestError, match=f'and {len(published_shapes()) + 5 - 4} more') as error:
        interpolation({f'layer{number}.weight': torch.zeros(1) for number in range(5)})
    assert str(error.value).count('is missing') == 2


def test_files_that_are_no_weights_are_refused(tmp_path, interpolation):
    with pytest.raises(RequestError, match=r'absent\.pytorch: cannot be read'):
        SepconvInterpolation(tmp_path / 'absent.pytorch', 'cpu')
    with pytest.raises(RequestError, match='cannot be read'):
        SepconvInterpolation(tmp_path, 'cpu')
    for content in (b'', b'<html>moved</html>', b'\x80\x02}q\x00'):
        page = tmp_path / 'page.pytorch'
        page.write_bytes(content)
        with pytest.raises(RequestError, match=r'page\.pytorch: is damaged, or holds more than tensors'):
            SepconvInterpolation(page, 'cpu')
    for state in ([torch.zeros(3)], {'epoch': 3}, {1: torch.zeros(3)}):
        with pytest.raises(RequestError, match='holds no table of names and tensors'):
            interpolation(state)
    with pytest.raises(RequestError, match='is damaged, or holds more than tensors'):
        interpolation({'network': SepconvInterpolation})  # a Python object, which could run code


def test_files_of_the_oldest_format_are_read(tmp_path):
    """The authors' files are from 2017, before torch wrote zip archives."""
    path = tmp_path / 'network-lf.pytorch'
    torch.save(picking(share=0.5), path, _use_new_zipfile_serialization=False)
    first, second = photo(8, 8) // 2 * 2, photo(8, 8, left=200) // 2 * 2
    (frame,) = SepconvInterpolation(path, 'cpu').between(first, second, 2)
    assert np.array_equal(frame, (first.astype(int) + second) // 2)


def test_a_device_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / 'network.pytorch'
    torch.save(empty_state(), path)
    for device in ('gpu', 'cuda:99'):
        with pytest.raises(RequestError, match=f'{device}: torch cannot use this device'):
            SepconvInterpolation(path, device)
