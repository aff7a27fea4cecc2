"""The memory of this process: its peak, its current size, and what is still free."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pdan_plugin.machine.accelerators import device_module
from pdan_plugin.machine.control_groups import control_groups
from pdan_plugin.machine.sizes import memory_in_words

_UNKNOWN = 2 * 2**30
_NO_LIMIT = 2**60  # control groups of version 1 give the largest number of pages instead of 'max'
_MEMORY_TABLE = Path('/proc/meminfo')


@dataclass(frozen=True)
class PeakMemory:
    """Peak memory in bytes, and the device or process it belongs to."""

    size: int
    where: str

    def __str__(self) -> str:
        return memory_in_words(self.size)


def peak_memory() -> PeakMemory | None:
    """The peak of torch's allocations on this process's GPU, or of its resident memory without a GPU that reports it.

    With several GPUs it is the highest peak. Data loader workers are separate processes and not included. None if the
    system does not report it (Windows without a GPU).
    """
    for module in (torch.cuda, torch.xpu):
        if module.is_available() and module.is_initialized():
            peaks = [module.max_memory_allocated(number) for number in range(module.device_count())]
            if max(peaks) > 0:
                return PeakMemory(max(peaks), f'GPU {peaks.index(max(peaks))}')
    size = _peak_resident()
    return None if size is None else PeakMemory(size, 'resident, without data loader workers')


def peak_memory_text() -> str:
    """The measured peak as text, for example 'Peak memory: 3.2 GiB (GPU 0)'."""
    peak = peak_memory()
    return 'Peak memory: not reported by this system' if peak is None else f'Peak memory: {peak} ({peak.where})'


def free_memory(device: torch.device) -> int:
    """Free bytes: on CUDA and xpu those of the device, elsewhere those of the machine or the container, whichever are
    fewer. mps shares the machine's memory, and takes no more of it than the system recommends.

    2 GiB if the system does not report it.
    """
    module = device_module(device)
    if device.type in ('cuda', 'xpu'):
        free, _ = module.mem_get_info(device)
        return int(free + module.memory_reserved(device) - module.memory_allocated(device))
    free = [value for value in (_available(), *_container_shares()) if value is not None]
    if device.type == 'mps':
        free.append(max(0, module.recommended_max_memory() - module.current_allocated_memory()))
    return min(free) if free else _UNKNOWN


def held_memory(device: torch.device) -> int:
    """Bytes this process uses: on CUDA and xpu torch's allocations, elsewhere its resident memory (0 if unknown).

    On mps torch's allocations are added, which are no part of the resident memory.
    """
    module = device_module(device)
    if device.type in ('cuda', 'xpu'):
        return int(module.memory_allocated(device))
    shared = int(module.current_allocated_memory()) if device.type == 'mps' else 0
    return shared + (process_memory('VmRSS') or 0)


def process_memory(field: str, process: int | str = 'self') -> int | None:
    """Bytes in a field of a process's status on Linux, such as VmRSS; None on other systems."""
    return _field(Path(f'/proc/{process}/status'), field)


def _peak_resident() -> int | None:
    # On Linux getrusage() also includes the memory of the parent process, from before exec.
    if (size := process_memory('VmHWM')) is not None:
        return size
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024


def _available() -> int | None:
    if (size := _field(_MEMORY_TABLE, 'MemAvailable')) is not None:
        return size
    try:
        return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, OSError, ValueError):  # Windows, macOS
        return None


def _container_shares() -> list[int]:
    """Free bytes below the limit of each control group of this process."""
    shares: list[int] = []
    for folder in control_groups('memory'):
        for limit_file, usage_file, kept in (  # of version 2 and version 1
            ('memory.max', 'memory.current', 'inactive_file'),
            ('memory.high', 'memory.current', 'inactive_file'),  # above it the system slows the process down
            ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
        ):
            with contextlib.suppress(OSError, ValueError):  # no such file, or 'max': no limit
                limit = int((folder / limit_file).read_bytes())
                if limit >= _NO_LIMIT:
                    continue
                usage = int((folder / usage_file).read_bytes())
                statistics = (folder / 'memory.stat').read_text().split()
                # inactive file cache is freed when memory is needed
                shares.append(limit - usage + int(statistics[statistics.index(kept) + 1]))
    return shares


def _field(table: Path, name: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines():
            if line.startswith(f'{name}:'):
                return int(line.split()[1]) * 1024
    return None
