"""How much memory a network's forward pass takes, how much there is, and what running out of it looks like."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHARE = 0.8  # of the memory free: the rest is for what grows beside, and for other programs
_CONVOLUTIONS = 1.25  # an allowance for what convolution libraries copy beside torch's tensors
_UNKNOWN = 2 * 2**30
_MEMORY_TABLE = Path('/proc/meminfo')
_STATUS = Path('/proc/self/status')


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
        with _CountedTensors() as counted:
            restore(batch)
        peak = counted.peak
    return max(1, int(peak * _CONVOLUTIONS / (side * side)))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken: on CUDA of the device, elsewhere of the machine or of the container's share.

    2 GiB where the system does not tell.
    """
    if device.type == 'cuda':
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = [value for value in (_available(), _container_share()) if value is not None]
    return min(free) if free else _UNKNOWN


def held_memory(device: torch.device) -> int:
    """Bytes this process holds: on CUDA what torch has allocated, elsewhere its resident memory (0 if unknown)."""
    if device.type == 'cuda':
        return torch.cuda.memory_allocated(device)
    return (_field(_STATUS, 'VmRSS:') or 0) if _STATUS.exists() else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a forward pass says that memory has run out, on a device or in the machine."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    words = ('not enough memory', 'out of memory', "can't allocate memory", 'cannot allocate memory')
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)


class _CountedTensors(TorchDispatchMode):
    """The bytes of all storages that operations make while it is active, until each is freed; ``peak`` the most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if _has_storage(value)}
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if _has_storage(value) and value.untyped_storage()._cdata not in given:
                self._count(value)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._alive:
            return

        def freed(_: weakref.ref) -> None:
            del self._alive[address]
            self._now -= size

        self._alive[address] = weakref.ref(storage, freed)
        self._now += size
        self.peak = max(self.peak, self._now)


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _available() -> int | None:
    if _MEMORY_TABLE.exists():
        return _field(_MEMORY_TABLE, 'MemAvailable:')
    try:
        return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, OSError, ValueError):  # Windows, macOS
        return None


def _container_share() -> int | None:
    try:
        limit = int(Path('/sys/fs/cgroup/memory.max').read_text())  # the word 'max' where there is no limit
        usage = int(Path('/sys/fs/cgroup/memory.current').read_text())
        kept = Path('/sys/fs/cgroup/memory.stat').read_text().split()
    except (OSError, ValueError):
        return None
    # files kept in memory are given up when memory is asked for
    return limit - usage + int(kept[kept.index('inactive_file') + 1])


def _field(table: Path, name: str) -> int | None:
    for line in table.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None
