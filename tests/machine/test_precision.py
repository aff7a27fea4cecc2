"""A number format that is slow on the processor at hand is found by trying it."""

import math

import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.precision import choose_precision, cost_on_cpu, require_precision, slowness, why_precision

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


@pytest.fixture
def processor(monkeypatch):
    """A mock of what Linux says about the processor and of the trial, because the processor at hand is of one kind."""

    def has(flags='', features='', cost=0.3):
        told = {'flags': flags, 'Features': features}
        monkeypatch.setattr('pdan_plugin.machine.precision.about_processor', lambda key: told.get(key, ''))
        monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda name: cost)

    return has


@pytest.mark.parametrize(
    ('facts', 'expected', 'reason'),
    [
        ({'flags': 'fpu sse2 avx2 avx512f avx512_bf16'}, 'bf16', 'avx512_bf16'),
        ({'flags': 'avx512f amx_tile amx_bf16 avx512_bf16'}, 'bf16', 'amx_bf16'),
        ({'features': 'fp asimd sve bf16 i8mm'}, 'bf16', 'bf16'),
        ({'flags': 'fpu sse2 avx2 avx512f avx512_vnni'}, 'fp32', 'no instructions'),  # torch emulates it there
        ({'flags': 'avx512_fp16'}, 'fp32', 'no instructions'),
        ({}, 'fp32', 'no instructions'),  # another system than Linux
        ({'features': 'bf16', 'cost': 6.0}, 'fp32', 'not faster'),  # a torch without the kernels
    ],
)
def test_auto_on_a_cpu_is_bf16_only_where_the_processor_computes_in_it(processor, facts, expected, reason):
    processor(**facts)
    assert choose_precision('auto', CPU) == expected
    assert reason in why_precision(CPU)


@pytest.mark.parametrize(
    ('capability', 'expected'),
    [((7, 5), 'fp32'), ((6, 1), 'fp32'), ((8, 0), 'bf16'), ((8, 6), 'bf16'), ((12, 0), 'bf16')],
)
def test_auto_on_cuda_is_bf16_from_ampere_on(monkeypatch, capability, expected):
    """A mock of a GPU."""
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert choose_precision('auto', torch.device('cuda')) == expected


@pytest.mark.parametrize('answer', [True, False])
def test_auto_on_an_amd_or_intel_gpu_asks_torch(monkeypatch, answer):
    """A mock of a GPU."""
    monkeypatch.setattr(torch.version, 'hip', '6.4')
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: answer)
    monkeypatch.setattr(torch.xpu, 'is_bf16_supported', lambda including_emulation=True: answer, raising=False)
    expected = 'bf16' if answer else 'fp32'
    assert choose_precision('auto', torch.device('cuda')) == expected
    assert choose_precision('auto', torch.device('xpu')) == expected


def test_auto_on_apple_s_gpu_is_fp32_and_a_named_precision_is_kept(processor):
    processor()
    assert choose_precision('auto', torch.device('mps')) == 'fp32'
    for name in ('fp32', 'bf16', 'fp16'):
        assert choose_precision(name, CPU) == name
    with pytest.raises(RequestError, match="precision: 'fp8': expected auto, fp32, bf16, fp16"):
        choose_precision('fp8', CPU)


@pytest.mark.parametrize('capability', [(6, 1), (7, 5), (8, 0), (9, 0), (12, 0)])
def test_bf16_needs_ampere(monkeypatch, capability):
    """A mock of a GPU; torch emulates tensors of bf16 on the older ones, without convolutions."""
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    device = torch.device('cuda')
    require_precision(device, 'fp16')
    require_precision(device, 'fp32')
    if capability >= (8, 0):
        require_precision(device, 'bf16')
        assert choose_precision('auto', device) == 'bf16'
    else:
        with pytest.raises(RequestError, match=r'bf16: this GPU has compute capability \d\.\d.*8\.0.*use fp16 or fp32'):
            require_precision(device, 'bf16')
        assert choose_precision('auto', device) == 'fp32'


@pytest.mark.parametrize('has_it', [True, False])
@pytest.mark.parametrize('kind', ['xpu', 'mps'])
def test_bf16_on_gpus_of_other_makers(monkeypatch, kind, has_it):
    """Mocks of an Intel and an Apple GPU."""
    monkeypatch.setattr(torch.xpu, 'is_bf16_supported', lambda including_emulation=True: has_it or including_emulation)
    monkeypatch.setattr(torch.backends.mps, 'is_macos_or_newer', lambda major, minor: has_it)
    if has_it:
        require_precision(torch.device(kind), 'bf16')
    else:
        with pytest.raises(RequestError, match=r'precision bf16: this GPU .*use fp16 or fp32'):
            require_precision(torch.device(kind), 'bf16')
