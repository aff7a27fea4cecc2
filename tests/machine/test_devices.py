"""Which device `auto` is, and names that are refused."""

import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.devices import choose_device, device_count, training_device, usable_devices

KINDS = ('cuda', 'mps', 'xpu')


@pytest.fixture
def machine_with(monkeypatch):
    """A mock of the accelerators, because a test machine has none of them, or one."""

    def has(*kinds):
        for kind in KINDS:
            backend = torch.backends.mps if kind == 'mps' else getattr(torch, kind)
            monkeypatch.setattr(backend, 'is_available', lambda kind=kind: kind in kinds)

    return has


@pytest.mark.parametrize('name', ['auto', None])
@pytest.mark.parametrize(
    ('kinds', 'expected'),
    [((), 'cpu'), (('xpu',), 'xpu'), (('mps',), 'mps'), (('cuda',), 'cuda'), (('xpu', 'cuda'), 'cuda')],
)
def test_auto_is_the_first_accelerator_and_else_the_cpu(machine_with, kinds, expected, name):
    machine_with(*kinds)
    assert choose_device(name) == torch.device(expected)


def test_the_cpu_stays_the_cpu_beside_a_gpu(machine_with):
    machine_with('cuda')
    assert choose_device('cpu') == torch.device('cpu')


@pytest.mark.parametrize('name', ['gpu', 'cuda:99', 'meta', '', 'cpu:x'])
def test_a_device_that_cannot_be_used_is_refused_with_those_that_can(machine_with, name):
    machine_with()
    assert usable_devices() == ['cpu']
    with pytest.raises(RequestError, match=f'device {name}: cannot be used: .*Usable here: auto, cpu'):
        choose_device(name)


@pytest.mark.parametrize('kind', ['mps', 'xpu'])
def test_a_training_finds_the_gpus_of_other_makers(machine_with, kind):
    machine_with(kind)
    assert device_count('auto', False, 'my.yml') == 1
    assert device_count(1, False, 'my.yml') == 1
    assert device_count(0, True, 'my.yml') == 0
    assert device_count('auto', True, 'my.yml') == 0  # processes of a group compute on the CPU
    assert training_device(1) == torch.device(kind)
    assert training_device(0) == torch.device('cpu')
    for count, distributed in ((2, False), (1, True)):
        with pytest.raises(RequestError, match=f'num_gpu: {count}: this machine has a GPU of kind {kind}'):
            device_count(count, distributed, 'my.yml')


def test_a_training_without_a_gpu(machine_with):
    machine_with()
    assert device_count('auto', False, 'my.yml') == 0
    assert training_device(1) == torch.device('cuda')  # whose error says what is missing
    with pytest.raises(RequestError, match='num_gpu: 1: this machine has 0 CUDA devices'):
        device_count(1, False, 'my.yml')
