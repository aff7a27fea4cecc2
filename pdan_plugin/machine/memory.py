"""How much memory this process has needed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS = Path('/proc/self/status')


@dataclass(frozen=True)
class PeakMemory:
    """The most memory held at one time, in bytes, and what it is the memory of."""

    size: int
    where: str

    def __str__(self) -> str:
        return readable_size(self.size)


def peak_memory() -> PeakMemory | None:
    """The peak of the GPU this process uses (tensors, as torch allocates them), else of its resident memory.

    Of several GPUs in one process it is the fullest one's. The memory of data loader workers, processes of their own,
    is not in it. None where the system does not tell (Windows, without CUDA).
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks = [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]
        if max(peaks) > 0:
            return PeakMemory(max(peaks), f'GPU {peaks.index(max(peaks))}')
    size = _peak_resident()
    return None if size is None else PeakMemory(size, 'resident, without data loader workers')


def peak_memory_text() -> str:
    """The measured peak in words, such as 'Peak memory: 3.2 GiB (GPU 0)'."""
    peak = peak_memory()
    return 'Peak memory: not told by this system' if peak is None else f'Peak memory: {peak} ({peak.where})'


def readable_size(size: int) -> str:
    """Bytes as '3.2 GiB' or '512 MiB'."""
    return f'{size / 2**30:.1f} GiB' if size >= 2**30 else f'{size / 2**20:.0f} MiB'


def _peak_resident() -> int | None:
    if _STATUS.exists():
        # On Linux getrusage() also counts what the process that started this one had, from before the program began.
        for line in _STATUS.read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == 'darwin' else peak * 1024
