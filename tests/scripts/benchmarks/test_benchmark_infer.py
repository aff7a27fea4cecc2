"""The benchmark of restoring: both sides run, its figures belong together, and agreement is of trained weights."""

import json

import pytest
import torch

from benchmarks import infer
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError

TINY = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1, 'deblur_branch': False}


@pytest.fixture(scope='module')
def result():
    cpu = torch.device('cpu')
    return infer.benchmark_infer(rounds=1, features=16, device=cpu, groups=1, blocks=1, size=(12, 20))


def test_the_result_is_told(result):
    assert json.loads(json.dumps(result)) == result
    table = infer.table(result)
    assert all(name in table for name in (infer.STOCK, infer.OURS, infer.LAYER, '--weights'))
    assert result['ratio'] == result['seconds'][infer.STOCK] / result['seconds'][infer.OURS]
    assert result['measured_on']['input'] == [1, 3, 12, 20]


def test_the_rate_is_of_the_network_measured(result):
    rate = result['operations_per_second'][infer.OURS]
    assert rate == 2 * result['multiply_accumulates'] / result['seconds'][infer.OURS]
    assert result['layer_share'][infer.OURS] == rate / result['operations_per_second'][infer.LAYER]
    # the 3x3 convolutions of the trunk alone: two of the block, one of the group, one after it
    assert result['multiply_accumulates'] > 4 * 9 * 16**2 * 12 * 20
    assert all(size > 0 for size in result['peak_memory'].values())


def test_agreement_is_measured_with_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(infer, 'SIZE', (12, 20))
    torch.manual_seed(0)
    network = PDAN(**TINY)
    with torch.no_grad():  # a network that restores grey, about as far from truth in either precision
        network.conv_last.weight.mul_(0.1)
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    options = tmp_path / 'options.yml'
    options.write_text('network_g: ' + json.dumps({'type': 'PDAN', **TINY}))
    agreement = infer.measure_agreement(tmp_path / 'net.pth', options, 2, torch.device('cpu'))
    assert agreement['within_one_level']['lowest'] > 0.99
    assert abs(agreement['psnr_difference']['farthest']) < 0.02
    assert agreement['psnr']['fp32'] != agreement['psnr']['bf16']

    options.write_text('network_g: ' + json.dumps({'type': 'PDAN', **TINY, 'upscale': 2}))
    torch.save({'params': PDAN(**TINY, upscale=2).state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(RequestError, match='x4'):
        infer.measure_agreement(tmp_path / 'net.pth', options, 1, torch.device('cpu'))
