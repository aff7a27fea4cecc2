"""A step of a fused optimizer that a flag on the device stops."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pdan_plugin.training.fused_optimizers import FUSED_OPTIMIZERS, step_unless


@pytest.mark.parametrize('name', FUSED_OPTIMIZERS)
def test_a_flag_stops_a_step_to_the_bit(name):
    parameter = nn.Parameter(torch.rand(4))
    optimizer = FUSED_OPTIMIZERS[name]([parameter], lr=0.1, weight_decay=0.1, fused=True)
    parameter.grad = torch.rand(4)
    step_unless(torch.tensor(0.0), optimizer)
    weights, state = parameter.detach().clone(), deepcopy(optimizer.state[parameter])
    parameter.grad = torch.full((4,), float('nan'))
    step_unless(torch.tensor(1.0), optimizer)
    assert torch.equal(parameter, weights)
    assert all(torch.equal(value, state[key]) for key, value in optimizer.state[parameter].items())
    parameter.grad = torch.rand(4)
    step_unless(torch.tensor(0.0), optimizer)
    assert not torch.equal(parameter, weights)
    assert optimizer.state[parameter]['step'] == 2
    optimizer.step()  # without a flag again
    assert optimizer.state[parameter]['step'] == 3
