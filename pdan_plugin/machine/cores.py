"""The cores that this process may use, and the name of the processor. It imports nothing slow: help texts use it."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import platform
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from pdan_plugin.machine.control_groups import control_groups

_PROCESSORS = Path('/proc/cpuinfo')


def usable_cores() -> int:
    """Number of cores this process may use: the cores it is bound to, limited by the quota of its container."""
    return min([bound_cores(), *_quotas()])


def bound_cores() -> int:
    """Number of cores this process is bound to, which torch and OpenMP count; a quota may grant less."""
    # macOS and Windows do not bind processes to cores
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def cores_of_this_rank() -> int:
    """The usable cores divided by the number of ranks on this machine, ``LOCAL_WORLD_SIZE`` of torchrun.

    Ranks that are bound to separate cores cannot be distinguished from ranks that share cores, so they get fewer than
    they have. A value that is no number of ranks counts as 1.
    """
    ranks = os.environ.get('LOCAL_WORLD_SIZE', '')
    return max(1, usable_cores() // max(1, int(ranks) if ranks.isdecimal() else 1))


def use_one_thread() -> None:
    """Makes OpenCV and torch compute with one thread each from now on; for worker processes."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Generator[None]:
    """Inside the block, OpenCV and torch compute with one thread each."""
    import cv2
    import torch

    before = cv2.getNumThreads(), torch.get_num_threads()
    use_one_thread()
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


@functools.cache
def let_forked_processes_compute() -> None:
    """Processes that are forked from this one from now on compute with one thread of torch each.

    A forked process has none of the threads with which torch has computed before, and GNU's OpenMP waits for them for
    ever. Torch does the same in the workers of its data loaders. Call this where torch may compute on the CPU.
    """
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=_use_one_thread_of_torch)


def _use_one_thread_of_torch() -> None:
    import torch

    torch.set_num_threads(1)


def processor_name() -> str:
    """The name of the processor."""
    return about_processor('model name') or platform.processor() or platform.machine()


def about_processor(key: str) -> str:
    """A value of the first processor in /proc/cpuinfo; empty if there is no such key or the system is not Linux."""
    with contextlib.suppress(OSError):
        for line in _PROCESSORS.read_text(encoding='utf-8', errors='replace').splitlines():
            name, _, value = line.partition(':')
            if name.strip() == key:
                return value.strip()
    return ''


def _quotas() -> Iterator[int]:
    """The CPU quotas of the control groups, in whole cores, rounded up."""
    for folder in control_groups('cpu'):
        with contextlib.suppress(OSError, ValueError):  # no such file, or 'max': no limit
            if (folder / 'cpu.max').exists():
                quota, period = map(int, (folder / 'cpu.max').read_text().split())
            else:
                quota, period = (int((folder / f'cpu.cfs_{name}_us').read_text()) for name in ('quota', 'period'))
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)
