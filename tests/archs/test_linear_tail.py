"""A tail as one convolution computes what its layers compute, up to the picture's border."""

import pytest
import torch

from pdan_plugin.archs import linear_tail
from pdan_plugin.archs.linear_tail import LinearTail, as_one_convolution, pays_as_one_convolution
from pdan_plugin.archs.pdan_arch import PDAN

SMALL = {'num_feat': 8, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 2, 'fuse_levels': 1, 'deblur_branch': False}


def made(**options):
    torch.manual_seed(0)
    return PDAN(**SMALL, **options).eval()


def both(network, features):
    """The tail as one convolution, and layer by layer."""
    layers = [layer for layer in network.upsample if isinstance(layer, torch.nn.Conv2d)]
    fast = as_one_convolution(features, layers, network.shuffle_factor, network.conv_last, network._tail)
    return fast, network._tail(features)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('upscale', [2, 3, 4, 8])
@pytest.mark.parametrize('rows', [1, 4, 100])
def test_it_is_exact_with_and_without_bands(layout, upscale, rows, monkeypatch):
    monkeypatch.setattr(linear_tail, '_BAND', 2 * 3 * upscale**2 * 11 * rows)
    network = made(upscale=upscale).double()
    features = torch.randn(2, 8, 9, 11, dtype=torch.float64).contiguous(memory_format=layout)
    with torch.inference_mode():
        fast, plain = both(network, features)
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12 * float(plain.abs().max()))


@pytest.mark.parametrize('upscale', [2, 3, 4, 8])
def test_a_network_uses_it_for_a_picture_and_restores_the_same(upscale):
    network = made(upscale=upscale)
    picture = torch.rand(2, 3, 41, 53)
    sizes = []
    network.conv_last.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    plain = network(picture).detach()
    assert sizes == [(41 * upscale, 53 * upscale)]
    sizes.clear()
    with torch.no_grad():
        fast = network(picture)
    strips = [(3 * upscale, 53 * upscale), (41 * upscale, 3 * upscale)]
    assert sorted(sizes) == sorted(strips * 2)  # its borders alone are computed layer by layer
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)


def test_it_does_not_depend_on_the_size_of_the_picture_where_the_picture_is_the_same():
    """As tiles need it: the middle of a large picture, and the same place in a part of it."""
    network = made().double()
    picture = torch.rand(1, 3, 80, 90, dtype=torch.float64)
    features = torch.randn(1, 8, 80, 90, dtype=torch.float64)
    assert pays_as_one_convolution(features) is False  # gradients are on
    with torch.inference_mode():
        whole, part = both(network, features)[0], both(network, features[..., 10:70, 20:80])[0]
        assert pays_as_one_convolution(network.conv_first(picture))
    torch.testing.assert_close(part[..., 8:-8, 8:-8], whole[..., 48:272, 88:312], rtol=0, atol=1e-12)


def test_under_autocast_it_is_float32_and_nearer_to_it_than_layer_by_layer():
    network = made()
    features = torch.randn(1, 8, 48, 48).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = network._tail(features.bfloat16().float())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            fast, plain = both(network, features.bfloat16())
    assert fast.dtype == plain.dtype == torch.float32
    inside = (..., slice(4, -4), slice(4, -4))
    of_fast, of_plain = (float((each - exact)[inside].abs().mean()) for each in (fast, plain))
    assert of_fast < 0.1 * of_plain


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_without_autocast_the_result_has_the_networks_dtype(dtype):
    network = made().to(dtype)
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 48, 48, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize('size', [(7, 400), (400, 7), (40, 40)])
def test_narrow_and_small_pictures_are_computed_layer_by_layer(size):
    with torch.inference_mode():
        assert not pays_as_one_convolution(torch.rand(1, 8, *size))
        assert not pays_as_one_convolution(torch.rand(1, 8, 400, 400, device='meta'))


def convolution(**options):
    return torch.nn.Conv2d(4, options.pop('out', 16), options.pop('size', 3), **{'padding': 1, **options})


@pytest.mark.parametrize(
    ('upsample', 'last', 'expected'),
    [
        ([convolution(), torch.nn.PixelShuffle(2)], convolution(out=3), True),
        ([convolution(), torch.nn.PixelShuffle(2)] * 2, convolution(out=3), True),
        ([convolution(), torch.nn.PixelShuffle(2), torch.nn.ReLU()], convolution(out=3), False),
        ([convolution(), torch.nn.ReLU()], convolution(out=3), False),
        (
            [convolution(), torch.nn.PixelShuffle(2), convolution(out=36), torch.nn.PixelShuffle(3)],
            convolution(),
            False,
        ),
        ([], convolution(out=3), False),
        ([convolution(bias=False), torch.nn.PixelShuffle(2)], convolution(out=3), False),
        ([convolution(), torch.nn.PixelShuffle(2)], convolution(padding_mode='reflect'), False),
        ([convolution(), torch.nn.PixelShuffle(2)], convolution(size=5, padding=2), False),
        ([convolution(), torch.nn.PixelShuffle(2)], torch.nn.ReLU(), False),
    ],
)
def test_only_convolutions_and_shuffles_are_joined(upsample, last, expected):
    assert LinearTail.takes(torch.nn.Sequential(*upsample), last) is expected
