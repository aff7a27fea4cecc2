"""What is found out about a network by trial."""

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.ridnet_arch import RIDNet
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.swinir_arch import SwinIR
from torch import nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.receptive_field import NetworkShape, measure_reach, network_shape
from pdan_plugin.restoration.restorer import Restorer

_WINDOWS = {'img_size': 12, 'window_size': 6, 'embed_dim': 12, 'depths': (2,), 'num_heads': (2,), 'upscale': 2}


@pytest.mark.parametrize(
    ('network', 'expected'),
    [
        (lambda: EDSR(3, 3, 8, 1, upscale=3), NetworkShape(3, 3, 1, 0)),
        (lambda: MSRResNet(1, 1, 8, 1, upscale=2), NetworkShape(1, 2, 1, 0)),
        (lambda: RCAN(3, 3, 16, 2, 3, squeeze_factor=4, upscale=2), NetworkShape(3, 2, 1, 6)),
        (lambda: PDAN(num_feat=8, num_group=2, num_block=2, squeeze_factor=4, fuse_levels=1), NetworkShape(3, 4, 1, 4)),
        (lambda: RIDNet(3, 16, 3), NetworkShape(3, 1, 1, 4)),
        (lambda: RRDBNet(3, 3, scale=2, num_feat=8, num_block=1, num_grow_ch=4), NetworkShape(3, 2, 2, 0)),
        (lambda: SwinIR(**_WINDOWS, upsampler='pixelshuffledirect'), NetworkShape(3, 2, 6, 0)),
    ],
)
def test_sizes_scale_channels_and_poolings_are_found(network, expected):
    network = network().eval().requires_grad_(False)
    assert network_shape(network, network) == expected


def _blur(width):
    """A mean over ``width`` pixels: what is felt of a border is known."""
    network = nn.Conv2d(3, 3, width, padding=width // 2, groups=3, bias=False).requires_grad_(False)
    network.weight.fill_(1 / width**2)
    return network


@pytest.mark.parametrize('width', [3, 9, 21])
def test_the_overlap_leaves_out_what_a_border_reaches(width):
    network = _blur(width)
    reach = measure_reach(network, network, network_shape(network, network))
    # three eighths of it lie between the border and what is used, and the kernel reaches half its width
    assert reach.is_bounded
    assert reach.grid == 1
    assert width // 2 - 1 <= reach.overlap * 3 / 8 <= width // 2 + 3


def test_weights_count_and_not_the_depth_alone():
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False) for _ in range(40)))
    for layer in deep.requires_grad_(False):
        layer.weight.zero_()[:, :, 1, 1] = 1
        layer.weight[:, :, 0, 1] = 0.002
    reach = measure_reach(deep, deep, network_shape(deep, deep))
    assert reach.overlap <= 8  # by depth it would be more than a hundred


def test_tiles_begin_at_multiples_of_a_stride():
    network = nn.Sequential(nn.Conv2d(3, 48, 4, stride=4), nn.PixelShuffle(4)).requires_grad_(False)
    shape = network_shape(network, network)
    assert shape.multiple == 4
    assert measure_reach(network, network, shape).grid == 4


def test_a_network_that_looks_at_everything_is_recognised():
    class Normalised(nn.Module):
        def forward(self, x):
            return x - nn.functional.instance_norm(x) / 4

    network = Normalised()
    assert not measure_reach(network, network, network_shape(network, network)).is_bounded


class Windowed(nn.Module):
    """Adds to each pixel a tenth of its window's mean, at a resolution that strides lower; pads nothing, as SwinIR.

    Args:
        attribute: The name under which the layer keeps the window's side, and its value there.
        stride: Pixels of the input per pixel of the window.
        pads: Whether sizes that are no multiple are extended inside, as in HAT's attention.
    """

    def __init__(self, side, attribute, stride=1, pads=False):
        super().__init__()
        self.layer = nn.Identity()
        setattr(self.layer, *attribute)
        self.multiple, self.stride, self.pads = side * stride, stride, pads

    def forward(self, x):
        height, width = x.shape[-2:]
        if self.pads:
            x = nn.functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode='replicate')
        b, c, h, w = x.shape
        windows = x.view(b, c, h // self.multiple, self.multiple, w // self.multiple, self.multiple)
        mean = windows.mean(dim=(3, 5), keepdim=True)
        return (windows + mean / 10).view(b, c, h, w)[..., :height, :width]


@pytest.mark.parametrize('side', [3, 5, 6, 7, 9, 10, 11, 12, 14, 15, 24])
def test_windows_of_any_side_are_found_and_restored_by(side):
    network = Windowed(side, ('window_size', side))
    assert network_shape(network, network) == NetworkShape(3, 1, side, 0)
    picture = np.random.default_rng(0).integers(0, 256, (2 * side + 1, 3 * side + 2, 3), dtype=np.uint8)
    # at the right and the bottom the last window is filled by reflection
    filled = np.pad(picture, ((0, side - 1), (0, side - 2), (0, 0)), mode='reflect')
    expected = network(torch.from_numpy(filled / np.float32(255)).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    expected = np.rint(255 * expected.clamp(0, 1).numpy())[: picture.shape[0], : picture.shape[1]]
    assert np.abs(Restorer(network, 'cpu').restore_picture(picture) - expected).max() <= 1


@pytest.mark.parametrize(
    ('attribute', 'side'),
    [
        (('window_size', (3, 3)), 3),
        (('window_size', np.int64(7)), 7),
        (('window_size', [5, 7]), 35),
        (('window_sizes', [[4, 4], [3, 3]]), 12),
        (('win_size', 9), 9),
        (('split_size', [6, 12]), 12),
        (('attn_window', 7), 7),
    ],
)
def test_windows_under_other_names(attribute, side):
    network = Windowed(side, attribute)
    assert network_shape(network, network).multiple == side


@pytest.mark.parametrize(('side', 'stride'), [(3, 2), (3, 4), (3, 8), (5, 4), (6, 8), (7, 2), (7, 8), (10, 8)])
def test_windows_at_a_lower_resolution(side, stride):
    network = Windowed(side, ('window_size', side), stride=stride)
    assert network_shape(network, network).multiple == side * stride


@pytest.mark.parametrize('side', [3, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 20, 24])
def test_tiles_begin_at_multiples_of_a_window_that_pads(side):
    network = Windowed(side, ('window_size', side), pads=True)
    shape = network_shape(network, network)
    assert shape.multiple == 1
    assert measure_reach(network, network, shape).grid == side
    picture = np.random.default_rng(0).integers(0, 256, (4 * side + 40, 5 * side + 41, 3), dtype=np.uint8)
    tiles = Restorer(network, 'cpu', tile=3 * side + 17).restore_picture(picture)
    assert np.abs(tiles.astype(int) - Restorer(network, 'cpu').restore_picture(picture)).max() <= 1


@pytest.mark.parametrize('side', [24, 48, 96, 128, 192, 224, 256])
def test_windows_without_a_name(side):
    network = Windowed(side, ('side', side))
    assert network_shape(network, network) == NetworkShape(3, 1, side, 0)


def test_a_window_that_no_size_fits_is_told_with_the_network_s_words_and_what_to_do():
    told = r'Windowed failed on every size tried.*Its last error was: shape.* up to 256.* window_size = NUMBER'
    with pytest.raises(RequestError, match=told):
        network_shape(network := Windowed(17, ('side', 17)), network)
