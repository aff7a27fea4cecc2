"""A network made ready for use restores what it restores as it is, in every precision, and stays as it is."""

import copy

import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.swinir_arch import SwinIR

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.inference_network import inference_network

CPU = torch.device('cpu')
TRUNK = {'num_feat': 16, 'num_group': 2, 'num_block': 2, 'squeeze_factor': 4}
NETWORKS = {
    'PDAN': lambda: PDAN(**TRUNK, fuse_levels=2),
    'PDAN ca': lambda: PDAN(**TRUNK, attention='ca', fuse_levels=1),
    'PDAN unfused': lambda: PDAN(**TRUNK, fuse_levels=0, upscale=3),
    'RCAN': lambda: RCAN(3, 3, **TRUNK, upscale=4),
    'EDSR': lambda: EDSR(3, 3, num_feat=16, num_block=2, upscale=4),
    'SwinIR': lambda: SwinIR(
        img_size=16, window_size=8, depths=[2], embed_dim=16, num_heads=[2], upscale=4, upsampler='pixelshuffle'
    ),
}
every_network = pytest.mark.parametrize('name', NETWORKS)


def made(name):
    """The network, and a batch of another size than it was built for."""
    torch.manual_seed(1)
    return NETWORKS[name](), torch.rand(2, 3, 16, 24)


def plain(network, batch):
    """The forward pass as training has it: with gradients, in the common layout."""
    return copy.deepcopy(network).eval()(batch).detach()


@every_network
def test_float32_restores_what_the_plain_network_does(name):
    network, batch = made(name)
    restored = inference_network(network, CPU)(batch)
    assert restored.dtype == torch.float32
    expected = plain(network, batch)
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize('name', ['RCAN', 'EDSR', 'SwinIR'])
def test_the_toolboxs_networks_compute_their_tails_as_one_convolution(name):
    """Only strips at the picture's borders reach the last convolution."""
    network, _ = made(name)
    batch, sizes = torch.rand(1, 3, 48, 56), []
    expected = plain(network, batch)
    network.conv_last.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    restored = inference_network(network, CPU)(batch)
    assert sizes == [(12, 224), (12, 224), (192, 12), (192, 12)]
    torch.testing.assert_close(restored, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))
    assert isinstance(network.conv_last, torch.nn.Conv2d)


class LikeEDSR(EDSR):
    """Its forward pass may be another one."""


def test_the_tail_of_an_unknown_network_stays():
    network, sizes = LikeEDSR(3, 3, num_feat=16, num_block=2, upscale=4), []
    network.conv_last.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
    inference_network(network, CPU)(torch.rand(1, 3, 48, 56))
    assert sizes == [(192, 224)]


@every_network
def test_bf16_is_what_autocast_computes_as_near_to_float32(name):
    network, batch = made(name)
    restored = inference_network(network, CPU, precision='bf16')(batch)
    assert restored.dtype == torch.float32
    expected = plain(network, batch)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        autocast = plain(network, batch).float()
    error, of_autocast = ((each - expected).abs().mean() for each in (restored, autocast))
    assert 0 < error <= 1.2 * of_autocast


def test_bf16_of_a_network_that_restores_is_within_a_grey_level():
    network, batch = made('PDAN')
    with torch.no_grad():  # a residual of about a tenth, like a trained network's, around its mean
        network.conv_last.weight.mul_(0.3)
    full, low = (inference_network(network, CPU, precision=each)(batch) for each in ('fp32', 'bf16'))
    levels = [(each.clamp(0, 1) * 255).round() for each in (full, low)]
    assert levels[0].std() > 2
    assert ((levels[0] - levels[1]).abs() <= 1).double().mean() >= 0.999


def test_the_network_stays_as_it_is():
    network, batch = made('PDAN')
    network.train()
    before = copy.deepcopy(network.state_dict())
    restore = inference_network(network, CPU, precision='bf16')
    first = restore(batch)
    assert network.training
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in network.parameters())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        network.conv_first.weight.zero_()
    assert torch.equal(restore(batch), first)


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(RequestError, match='bf16'):
        inference_network(made('PDAN')[0], CPU, precision='fp16')
