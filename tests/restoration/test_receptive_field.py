"""What is found out about a network by trial."""

import pytest
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.ridnet_arch import RIDNet
from basicsr.archs.rrdbnet_arch import RRDBNet
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.swinir_arch import SwinIR
from torch import nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.restoration.receptive_field import NetworkShape, measure_reach, network_shape

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
