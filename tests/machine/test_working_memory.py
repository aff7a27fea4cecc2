"""Memory that runs out is recognised in everyone's words. The errors are mocks: this machine has no GPU to fill."""

import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accepted_sizes import accepted_sizes
from pdan_plugin.machine.working_memory import is_out_of_memory, is_surely_out_of_memory, may_be_unsupported

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
