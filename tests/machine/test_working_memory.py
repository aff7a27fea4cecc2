"""Memory that runs out is recognised in all words, and what a network needs is found. Errors of GPUs are mocks."""

import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine import working_memory as working_memory_module
from pdan_plugin.machine.accepted_sizes import accepted_sizes
from pdan_plugin.machine.working_memory import (
    WorkingMemory,
    is_out_of_memory,
    is_surely_out_of_memory,
    may_be_unsupported,
    working_memory,
)

SURE = [
    MemoryError(),
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB'),
    torch.OutOfMemoryError('XPU out of memory. Tried to allocate 20.00 GiB.'),
    RuntimeError('CUDA error: out of memory'),
    RuntimeError('HIP out of memory. Tried to allocate 2.00 GiB'),
    RuntimeError(
        'MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)'
    ),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    RuntimeError('cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
    RuntimeError('CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`'),
    RuntimeError('miopenStatusAllocFailed'),
    RuntimeError('level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)'),
    RuntimeError('level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)'),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError('DefaultCPUAllocator: not enough memory: you tried to allocate 20 bytes.'),
    RuntimeError('std::bad_alloc'),
]
PERHAPS = [
    RuntimeError('GET was unable to find an engine to execute this computation'),
    RuntimeError('FIND was unable to find an engine to execute this computation after trying 4 plans.'),
    RuntimeError('Unable to find a valid cuDNN algorithm to run convolution'),
]
OTHERS = [
    RuntimeError('CUDA error: an illegal memory access was encountered'),
    RuntimeError('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED'),
    RuntimeError('mat1 and mat2 shapes cannot be multiplied'),
    ValueError('out of memory'),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize('error', SURE, ids=lambda error: str(error)[:40])
def test_short_memory_in_the_words_of_each_library(error):
    assert is_out_of_memory(error)
    assert is_surely_out_of_memory(error)
    assert not may_be_unsupported(error)


@pytest.mark.parametrize('error', PERHAPS, ids=lambda error: str(error)[:40])
def test_a_convolution_without_an_engine_may_be_either(error):
    assert is_out_of_memory(error)
    assert may_be_unsupported(error)
    assert not is_surely_out_of_memory(error)


@pytest.mark.parametrize('error', OTHERS, ids=lambda error: str(error)[:40])
def test_other_errors_are_no_memory(error):
    assert not is_out_of_memory(error)


def test_memory_that_runs_out_is_not_taken_for_a_size_that_the_network_refuses():
    def failing(error):
        def restore(batch):
            raise error

        return restore

    network = torch.nn.Conv2d(3, 3, 3)
    with pytest.raises(torch.OutOfMemoryError):
        accepted_sizes(failing(torch.OutOfMemoryError('CUDA out of memory.')), network)
    with pytest.raises(RequestError, match='unable to find an engine'):
        accepted_sizes(failing(PERHAPS[0]), network)


def _in_bands(batch, most=4096):
    """A network that computes at most ``most`` pixels at a time: 48 bytes a pixel of these, and 12 of its result."""
    result = torch.empty_like(batch)
    rows = max(1, most // batch.shape[-1])
    for top in range(0, batch.shape[-2], rows):
        band = batch[..., top : top + rows, :]
        result[..., top : top + rows, :] = torch.cat([band] * 4).mean(0, keepdim=True)
    return result


def _peak_of(function, pixels):
    side = round(pixels**0.5)
    batch = torch.rand(1, 3, side, side)
    with working_memory_module._PeakOfStorages() as counted:
        function(batch)
    return counted.peak


@pytest.mark.parametrize('simulated', [False, True])
def test_memory_at_two_sizes_is_the_line_through_both(simulated):
    found = working_memory(_in_bands, torch.device('cpu'), 3, 1, (96, 192), simulated=simulated)
    proportional = working_memory(_in_bands, torch.device('cpu'), 3, 1)
    for side in (96, 128, 192, 384):
        peak = 1.4 * _peak_of(_in_bands, side * side)
        assert peak * 0.98 <= found.needed(side * side) <= peak * 1.05
        assert proportional.needed(side * side) > found.needed(side * side)
    assert proportional.needed(384**2) > 2 * found.needed(384**2)


def test_memory_that_grows_faster_than_the_area_is_taken_from_the_larger_square():
    def attention(batch):
        mean = batch.mean(1).flatten(1)
        return batch + (mean[:, :, None] * mean[:, None]).mean() * 0

    found = working_memory(attention, torch.device('cpu'), 3, 1, (16, 32))
    assert found.fixed == 0
    assert found.needed(32 * 32) > 1.3 * _peak_of(attention, 32 * 32)


def test_a_size_that_the_network_accepts_is_measured():
    sides = []

    def restore(batch):
        sides.append(batch.shape[-1])
        return batch * 2

    found = working_memory(restore, torch.device('cpu'), 3, 7, (48, 96))
    assert sides == [49, 98]
    assert found.needed(98 * 98) == pytest.approx(1.4 * 12 * 98 * 98)


@pytest.mark.parametrize('further', [0.0, 20.0])
@pytest.mark.parametrize('size', [50, 1e3, 5e3, 9e3, 2e4, 1e6])
def test_the_pixels_in_some_bytes_are_those_that_need_them(size, further):
    for memory in (WorkingMemory(0, 10), WorkingMemory(4000, 3, 6000, 12)):
        pixels = memory.pixels_in(size, further)
        assert memory.needed(pixels) + further * pixels <= size * 1.000001
        assert memory.needed(pixels * 1.01 + 1) + further * (pixels * 1.01 + 1) > size
