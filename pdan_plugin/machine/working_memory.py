"""How much memory a network's forward pass takes, and what running out of it looks like."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pdan_plugin.machine.counted_storages import CountedStorages

SHARE = 0.8  # of the memory free: the rest is for what grows beside, and for other programs
_CONVOLUTIONS = 1.25  # an allowance for what convolution libraries copy beside torch's tensors


def bytes_per_pixel(restore: Callable[[Tensor], Tensor], device: torch.device, channels: int, multiple: int) -> int:
    """What restoring holds at its fullest, weights aside, by input pixel.

    Measured on one small square, 48 pixels wide or the next multiple; memory grows with the area (a PDAN's tensors by
    the same 4.75 kB a pixel from 48 to 192 pixels; its resident memory grew by three quarters of that). On CUDA it is
    what torch has allocated at most, elsewhere the sum of all tensors that operations make, until each is freed, and a
    quarter more.
    """
    side = -(-48 // multiple) * multiple
    batch = torch.rand(1, channels, side, side)
    if device.type == 'cuda':
        restore(batch)  # the first run also allocates workspaces and casts of weights that stay
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
    """Whether an error of a forward pass says that memory has run out, on a device or in the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ('not enough memory', 'out of memory', "can't allocate memory", 'cannot allocate memory')
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


class _PeakOfStorages(CountedStorages):
    """``peak``: the most bytes held at one time."""

    peak = 0

    def after_operation(self) -> None:
        self.peak = max(self.peak, self.held.total())
