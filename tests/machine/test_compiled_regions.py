"""What repeats is compiled once for all, and computes the same."""

from functools import partialmethod

import pytest
import torch
import torch._dynamo.utils as dynamo
from basicsr.archs import build_network
from torch import nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.machine.compiled_regions import compile_in_place, repeated_modules
from pdan_plugin.restoration.inference_network import inference_network

RCAN = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_group': 2, 'num_block': 3,
        'squeeze_factor': 8}  # fmt: skip


def pdan(blocks=3):
    torch.manual_seed(0)
    return PDAN(num_feat=16, num_group=2, num_block=blocks, fuse_levels=2, deblur_branch=False)


@pytest.fixture
def compiling(monkeypatch):
    """Compiles without a C++ compiler; returns the number of graphs so far."""
    torch.compiler.reset()
    dynamo.counters.clear()
    monkeypatch.setattr(nn.Module, 'compile', partialmethod(nn.Module.compile, backend='aot_eager'))
    yield lambda: dynamo.counters['stats']['unique_graphs']
    torch.compiler.reset()


@pytest.mark.parametrize(
    ('options', 'name', 'count'),
    [
        ({'type': 'PDAN', 'num_feat': 16, 'num_group': 2, 'num_block': 6, 'fuse_levels': 2}, 'AttentionBlock', 12),
        (RCAN, 'RCAB', 6),
        ({'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 8}, 'ResidualBlockNoBN', 8),
        ({'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4},
         'ResidualDenseBlock', 6),
        ({'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2, 2], 'embed_dim': 12,
          'num_heads': [2, 2], 'upsampler': 'pixelshuffledirect'}, 'SwinTransformerBlock', 4),
    ],
)  # fmt: skip
def test_the_block_that_a_network_is_made_of_is_found(options, name, count):
    found = repeated_modules(build_network(options))
    assert [type(module).__name__ for module in found] == [name] * count


@pytest.mark.parametrize('options', [{'type': 'Bicubic'}, {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3,
                                                          'num_feat': 8, 'num_block': 3}])  # fmt: skip
def test_a_network_without_repetition_is_compiled_whole(options, compiling):
    network = build_network(options)
    assert repeated_modules(network) == []
    assert compile_in_place(network) == 'the whole network'
    network(torch.rand(1, 3, 8, 8))
    assert compiling() > 0


def test_blocks_share_their_code_and_compute_the_same(compiling):
    batch = torch.rand(2, 3, 9, 12)
    graphs = []
    for blocks in (3, 6):
        network, plain = pdan(blocks), pdan(blocks)
        assert compile_in_place(network) == 'each AttentionBlock'
        for each in (network, plain):
            each(batch).square().mean().backward()
        for (name, got), expected in zip(network.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=name)
        graphs.append(compiling())
    assert graphs[0] == graphs[1] > 0
    assert list(network.state_dict()) == list(plain.state_dict())


def test_a_validation_between_two_steps_compiles_nothing(compiling):
    network = pdan()
    compile_in_place(network)
    batch = torch.rand(2, 3, 8, 8)
    network(batch).mean().backward()
    before = compiling()
    inference_network(network, torch.device('cpu'))(torch.rand(1, 3, 20, 14))  # a copy, as in a validation
    network(batch).mean().backward()
    assert compiling() == before
