"""Memory of a network's forward pass, and recognition of out-of-memory errors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdan_plugin.machine.counted_storages import CountedStorages

SHARE = 0.8  # of the free memory; the rest is for other allocations and other programs
_CONVOLUTIONS = 1.25  # allowance for copies that convolution libraries make in addition to torch's tensors


def bytes_per_pixel(restore: Callable[[Tensor], Tensor], device: torch.device, channels: int, multiple: int) -> int:
    """Peak memory of restoring in bytes per input pixel, without the weights.

    Measured on one square of 48 pixels (or the next multiple), because memory grows with the area: PDAN's tensors take
    4.75 kB per pixel from 48 to 192 pixels; its resident memory grew by three quarters of that. On CUDA it is the peak
    of torch's allocations, elsewhere of the tensors that operations create. A quarter is added.
    """
    side = -(-48 // multiple) * multiple
    batch = torch.rand(1, channels, side, side)
    if device.type == 'cuda':
        restore(batch)  # the first run also allocates workspaces and cast weights, which stay
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        restore(batch)
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        with _PeakOfStorages() as counted:
            restore(batch)
        peak = counted.peak
    return max(1, int(peak * _CONVOLUTIONS / (side * side)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a forward pass means that the device or the machine is out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ('not enough memory', 'out of memory', "can't allocate memory", 'cannot allocate memory')
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


class _PeakOfStorages(CountedStorages):
    """``peak`` is the maximum of the counted bytes."""

    peak = 0

    def after_operation(self) -> None:
        self.peak = max(self.peak, self.held.total())
