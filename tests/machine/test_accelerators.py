"""GPUs of every maker, as mocks of torch's modules: this machine has none."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from pdan_plugin.machine import accelerators, working_memory
from pdan_plugin.machine.accelerators import free_cached_memory, has_float64, has_own_memory, name_of, synchronize
from pdan_plugin.machine.memory import free_memory, held_memory, process_memory
from pdan_plugin.training.random_state import random_state, set_random_state

GB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """A mock of the module of one kind; returns it with the calls that were made."""

    def of(kind):
        calls = []
        state = [torch.zeros(3, dtype=torch.uint8)]

        def set_state(new, device):
            calls.append(('set_rng_state', str(device)))
            state[0] = new

        module = SimpleNamespace(
            calls=calls,
            empty_cache=lambda: calls.append(('empty_cache',)),
            get_rng_state=lambda device: state[0].clone(),
            set_rng_state=set_state,
        )
        if kind == 'mps':
            module.synchronize = lambda: calls.append(('synchronize',))
            module.recommended_max_memory = lambda: 5 * 2**20
            module.current_allocated_memory = lambda: 2 * 2**20
        else:
            module.synchronize = lambda device: calls.append(('synchronize', str(device)))
            module.get_device_name = lambda device: f'a card of {kind}'
            module.mem_get_info = lambda device: (6 * GB, 8 * GB)
            module.memory_reserved = lambda device: 2 * GB
            module.memory_allocated = lambda device: GB
            module.max_memory_allocated = lambda device: GB + 48 * 48 * 1000
            module.reset_peak_memory_stats = lambda device: calls.append(('reset', str(device)))
        monkeypatch.setattr(torch, kind, module)
        return torch.device(kind), module

    return of


@pytest.mark.parametrize('kind', ['cuda', 'xpu', 'mps'])
def test_each_kind_is_waited_for_emptied_and_named(gpu, kind):
    device, module = gpu(kind)
    synchronize(device)
    free_cached_memory(device)
    assert module.calls == [('synchronize',) if kind == 'mps' else ('synchronize', kind), ('empty_cache',)]
    assert name_of(device) == ('Apple GPU (mps)' if kind == 'mps' else f'a card of {kind}')
    assert has_float64(device) is (kind != 'mps')
    assert has_own_memory(device) is (kind != 'mps')


def test_a_cpu_has_none_of_it():
    device = torch.device('cpu')
    synchronize(device)
    free_cached_memory(device)
    assert name_of(device) is None
    assert has_float64(device)
    assert not has_own_memory(device)
    assert accelerators.device_module(torch.device('meta')) is None


@pytest.mark.parametrize('kind', ['cuda', 'xpu'])
def test_the_memory_of_a_card_is_its_own(gpu, kind):
    device, _ = gpu(kind)
    assert free_memory(device) == 7 * GB  # what torch holds and does not use is free, too
    assert held_memory(device) == GB


def test_an_apple_gpu_shares_the_memory_of_the_machine(gpu):
    device, _ = gpu('mps')
    assert free_memory(device) == 3 * 2**20  # the system recommends less than is free
    resident = process_memory('VmRSS')
    assert abs(held_memory(device) - 2 * 2**20 - resident) < 2**26


@pytest.mark.parametrize('kind', ['cuda', 'xpu'])
def test_the_bytes_of_a_pixel_are_the_peak_of_the_card(gpu, kind):
    device, module = gpu(kind)
    assert working_memory.working_memory(lambda batch: batch, device, 3, 1).of_pixel == 1250
    assert ('reset', kind) in module.calls


def test_where_no_peak_is_recorded_the_tensors_are_counted(gpu):
    device, _ = gpu('mps')
    assert 16 <= working_memory.working_memory(lambda batch: batch + 1, device, 3, 1).of_pixel <= 34


@pytest.mark.parametrize('kind', ['cuda', 'xpu', 'mps'])
def test_the_generator_of_a_gpu_is_saved_and_set(gpu, kind):
    device, module = gpu(kind)
    state = random_state(device)
    assert kind in state
    set_random_state(state, device)
    assert module.calls == [('set_rng_state', kind)]
    with contextlib.suppress(KeyError):
        del state[kind]
    module.calls.clear()
    set_random_state(state, device)  # of a run on a CPU
    assert module.calls == []
