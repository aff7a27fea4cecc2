"""How much of the processor belongs to this process, and which processor it is."""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch

from pdan_plugin.machine.control_groups import control_groups

_PROCESSORS = Path('/proc/cpuinfo')


def usable_cores() -> int:
    """The cores the system lets this process use: those it is bound to, and no more than its container's share."""
    # macOS and Windows bind no process to cores
    bound = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return min([bound, *_quotas()])


def cores_of_this_rank() -> int:
    """The usable cores, shared out among the ranks a launcher started on this machine.

    The ranks are ``LOCAL_WORLD_SIZE``, as torchrun sets it. Ranks that were bound to cores of their own, none of which
    another may use, can not be told from ranks that share theirs: they get less than they have.
    """
    return max(1, usable_cores() // int(os.environ.get('LOCAL_WORLD_SIZE') or 1))


def use_one_thread() -> None:
    """OpenCV and torch compute with one thread each from now on, as a worker process among many should."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@contextmanager
def one_thread() -> Iterator[None]:
    """While it lasts, OpenCV and torch compute with one thread each."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    use_one_thread()
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def processor_name() -> str:
    """The processor's name in words."""
    return about_processor('model name') or platform.processor() or platform.machine()


def about_processor(key: str) -> str:
    """What Linux says of the first processor under a key; empty elsewhere, and where there is no such key."""
    with contextlib.suppress(OSError):
        for line in _PROCESSORS.read_text(encoding='utf-8', errors='replace').splitlines():
            name, _, value = line.partition(':')
            if name.strip() == key:
                return value.strip()
    return ''


def _quotas() -> Iterator[int]:
    """The cores' time that control groups grant, in whole cores, rounded up."""
    for folder in control_groups('cpu'):
        with contextlib.suppress(OSError, ValueError):  # no such file, or the word 'max': no limit
            if (folder / 'cpu.max').exists():
                quota, period = map(int, (folder / 'cpu.max').read_text().split())
            else:
                quota, period = (int((folder / f'cpu.cfs_{name}_us').read_text()) for name in ('quota', 'period'))
            if quota > 0 and period > 0:
                yield math.ceil(quota / period)
