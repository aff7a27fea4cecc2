"""The running average: the toolbox's bits on a CPU, lists that follow replaced parameters, and a flag that stops it."""

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import nn

from pdan_plugin.training.parameter_average import ParameterAverage, average_of


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 2, 1, bias=False)))


@pytest.fixture
def pair():
    """A trained network and its average, with other weights and statistics."""
    trained, average = network(), network()
    trained(torch.rand(2, 3, 5, 5))
    return trained, average


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(trained, average, decay):
    """What the toolbox's formula makes of an average, with the buffers of the trained network."""
    parameters = dict(trained.named_parameters())
    expected = {name: value.clone() for name, value in trained.named_buffers()}
    for name, value in average.named_parameters():
        expected[name] = value.detach().clone().mul_(decay).add_(parameters[name].detach(), alpha=1 - decay)
    return expected


def assert_is(module, expected, **tolerances):
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, expected[name], **(tolerances or {'rtol': 0, 'atol': 0}))


def test_an_average_has_the_toolboxs_bits_on_a_cpu(pair, stock):
    trained, average = pair
    expected = moved(trained, average, 0.999)
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.net_g, model.net_g_ema = trained, network()
    model.net_g_ema.load_state_dict(average.state_dict())
    with stock():
        model.model_ema(0.999)
    ParameterAverage(trained, average).move(0.999)
    assert_is(average, expected)
    assert all(map(torch.equal, average.parameters(), model.net_g_ema.parameters()))


def replaced_by_loading(module):
    module.load_state_dict(copies(network()), assign=True)


def replaced_by_hand(module):
    module[0].weight = nn.Parameter(torch.rand(4, 3, 3, 3))


def replaced_buffer(module):
    module[1].running_mean = torch.rand(4)


def replaced_module(module):
    module[2][0] = nn.Conv2d(4, 2, 1, bias=False)


def replaced_container(module):
    module[2] = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False))


def added_buffer(module):
    module[0].register_buffer('further', torch.rand(2))


def moved_to_another_format(module):
    module.double()


@pytest.mark.parametrize(
    'change',
    [replaced_by_loading, replaced_by_hand, replaced_buffer, replaced_module, replaced_container,
     added_buffer, moved_to_another_format],
)  # fmt: skip
@pytest.mark.parametrize('of', [(0,), (1,), (0, 1)], ids=['trained', 'average', 'both'])
def test_replaced_parameters_are_followed(pair, change, of):
    trained, average = pair
    moving = ParameterAverage(trained, average)
    moving.move(0.9)
    for index in of:
        change(pair[index])
    if change in (moved_to_another_format, added_buffer) and len(of) == 1:
        change(pair[1 - of[0]])  # both have one format and the same names
    expected = moved(trained, average, 0.9)
    moving.move(0.9)
    assert_is(average, expected)


def test_the_lists_are_made_once(pair, monkeypatch):
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.net_g, model.net_g_ema = pair
    model.model_ema(0)
    names = []
    looked = nn.Module.named_parameters
    monkeypatch.setattr(nn.Module, 'named_parameters', lambda self: names.append(1) or looked(self))
    for _ in range(3):
        model.model_ema(0.9)
    assert names == []
    model.net_g = network()
    expected = moved(model.net_g, model.net_g_ema, 0.9)
    model.model_ema(0.9)
    assert_is(model.net_g_ema, expected)
    assert average_of(model).trained is model.net_g


def laid_out_otherwise(module):
    module[0].weight.data = module[0].weight.data.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('change', [lambda module: None, laid_out_otherwise], ids=['alike', 'otherwise'])
def test_a_flag_stops_it_to_the_bit(pair, change):
    trained, average = pair
    change(average)
    moving = ParameterAverage(trained, average)
    before = copies(average)
    moving.move(0.9, unless=torch.tensor(1.0))
    assert_is(average, before)
    expected = moved(trained, average, 0.9)
    moving.move(0.9, unless=torch.tensor(0.0))
    assert_is(average, expected, rtol=1e-6, atol=1e-7)
    assert not torch.equal(average[0].weight, before['0.weight'])


def test_a_parameter_that_the_trained_network_lacks_is_named(pair):
    trained, average = pair
    average.further = nn.Parameter(torch.zeros(1))
    with pytest.raises(KeyError, match='further'):
        ParameterAverage(trained, average)
