"""How much of the processor belongs to this process."""

from __future__ import annotations

import os


def cores_of_this_rank() -> int:
    """The cores the system lets this process use, shared out among the ranks a launcher started on this machine.

    The ranks are ``LOCAL_WORLD_SIZE``, as torchrun sets it. Ranks that were bound to cores of their own, none of which
    another may use, can not be told from ranks that share theirs: they get less than they have.
    """
    # macOS and Windows bind no process to cores
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get('LOCAL_WORLD_SIZE') or 1))
