"""A flag that a GPU has computed, on its way to the host, which reads it later without waiting."""

from __future__ import annotations

import torch
from torch import Tensor


class UnreadFlag:
    """Copies a flag to the host as soon as the GPU has computed it.

    Reading a tensor of a GPU makes the host wait until all work given to the GPU is done, and the GPU then waits for
    new work. Here the host gives the GPU more work first; when it reads the flag, the copy has usually arrived.

    Args:
        flag: A scalar on a CUDA device, or on a CPU, where nothing has to be copied.
    """

    def __init__(self, flag: Tensor) -> None:
        self._on_host, self._arrival = flag, None
        if flag.is_cuda:
            self._on_host = torch.empty(flag.shape, dtype=flag.dtype, device='cpu', pin_memory=True)
            self._on_host.copy_(flag, non_blocking=True)
            self._arrival = torch.cuda.current_stream(flag.device).record_event()

    def read(self) -> bool:
        """The flag. Waits for the work that was given to the GPU before the flag was copied, and for no later work."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return bool(self._on_host)
