"""Memory of a network's forward pass, and recognition of out-of-memory errors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdan_plugin.machine.accelerators import device_module, reports_peak_memory, synchronize
from pdan_plugin.machine.counted_storages import CountedStorages

SHARE = 0.8  # of the free memory; the rest is for other allocations and other programs
_CONVOLUTIONS = 1.25  # allowance for copies that convolution libraries make in addition to torch's tensors


def bytes_per_pixel(restore: Callable[[Tensor], Tensor], device: torch.device, channels: int, multiple: int) -> int:
    """Peak memory of restoring in bytes per input pixel, without the weights.

    Measured on one square of 48 pixels (or the next multiple), because memory grows with the area: PDAN's tensors take
    4.75 kB per pixel from 48 to 192 pixels; its resident memory grew by three quarters of that. On CUDA and xpu it is
    the peak of torch's allocations, elsewhere of the tensors that operations create. A quarter is added.
    """
    side = -(-48 // multiple) * multiple
    batch = torch.rand(1, channels, side, side, generator=torch.Generator())  # the program's random numbers stay
    if reports_peak_memory(device):
        statistics = device_module(device)
        restore(batch)  # the first run also allocates workspaces and cast weights, which stay
        synchronize(device)
        statistics.reset_peak_memory_stats(device)
        before = statistics.memory_allocated(device)
        restore(batch)
        synchronize(device)
        peak = statistics.max_memory_allocated(device) - before
    else:
        with _PeakOfStorages() as counted:
            restore(batch)
        peak = counted.peak
    return max(1, int(peak * _CONVOLUTIONS / (side * side)))


# in an error's lower-case text: memory, in the words of torch, CUDA, cuDNN, cuBLAS and their likes on ROCm and xpu
_MEMORY = (
    'not enough memory',
    'out of memory',
    "can't allocate memory",
    'cannot allocate memory',
    'bad_alloc',
    'alloc_failed',  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED, HIPBLAS_STATUS_ALLOC_FAILED ...
    'allocation_failed',  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    'miopenstatusallocfailed',
    'out_of_device_memory',
    'out_of_host_memory',
    'out_of_resources',
)
# cuDNN found no way to compute a convolution: none fits into the memory, or none exists for this device and format
_NO_WAY = (
    'unable to find an engine',
    'unable to find a valid cudnn algorithm',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a forward pass means that the device or the machine is out of memory, or may mean it.

    cuDNN finds no way to compute a convolution when the memory is short, and also when it has none for the device and
    the number format (:func:`may_be_unsupported`). A smaller input shows which.
    """
    return is_surely_out_of_memory(error) or may_be_unsupported(error)


def is_surely_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is short, and nothing else."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY)


def may_be_unsupported(error: BaseException) -> bool:
    """Whether an error of cuDNN means short memory or a convolution that the device does not have."""
    if is_surely_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _NO_WAY)


class _PeakOfStorages(CountedStorages):
    """``peak`` is the maximum of the counted bytes."""

    peak = 0

    def after_operation(self) -> None:
        self.peak = max(self.peak, self.held.total())
