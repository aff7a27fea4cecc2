"""A number format that is slow on the processor at hand is found by trying it."""

import math

import pytest
import torch

from pdan_plugin.machine.precision import cost_on_cpu, slowness

CPU = torch.device('cpu')


@pytest.mark.parametrize('name', ['bf16', 'fp16'])
def test_the_trial_leaves_threads_and_random_numbers_as_they_were(name):
    cost_on_cpu.cache_clear()
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    cost = cost_on_cpu(name)
    assert math.isfinite(cost)
    assert cost > 0
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), generator)


def test_only_a_cpu_that_is_slow_in_it_is_told_of(monkeypatch):
    """A mock, because the processor at hand is of one kind."""
    costs = {'bf16': 8.4, 'fp16': 0.6}
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', costs.__getitem__)
    told = slowness(CPU, 'bf16')
    assert told is not None
    assert 'precision bf16' in told
    assert '8 times' in told
    assert slowness(CPU, 'fp16') is None
    assert slowness(CPU, 'fp32') is None  # nothing is tried for it
    assert slowness(torch.device('cuda'), 'bf16') is None
