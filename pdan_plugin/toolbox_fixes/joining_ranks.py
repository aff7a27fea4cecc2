"""How the toolbox joins a process group, and a simulated second rank for probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import torch.distributed as dist
from basicsr.utils import dist_util

from pdan_plugin.processes.process_group import init_dist
from pdan_plugin.toolbox_fixes.patching import fix, replace, swapped


@contextmanager
def pretended_second_rank() -> Iterator[list[str]]:
    """For probes: this process acts as rank 1 of 2. The list collects the calls that would wait for rank 0."""
    waits: list[str] = []

    def waiting(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: waits.append(name)

    names = ('barrier', 'monitored_barrier', 'broadcast', 'broadcast_object_list', 'all_reduce', 'all_gather_object')
    store = SimpleNamespace(wait=waiting('store'), get=waiting('store'))
    with ExitStack() as stack:
        stack.enter_context(swapped(dist, **{name: waiting(name) for name in names}))
        stack.enter_context(swapped(dist.distributed_c10d, _get_default_store=lambda: store))
        stack.enter_context(
            swapped(
                dist,
                is_initialized=lambda: True,
                get_rank=lambda *args: 1,
                get_world_size=lambda *args: 2,
            )
        )
        yield waits


@fix(
    where='utils/dist_util.py:10,23; utils/options.py:106',
    upstream='none',
    symptom='--launcher pytorch: always nccl, dist_params ignored, RANK used as LOCAL_RANK, division by 0 on a CPU',
    behaves=lambda: dist_util.init_dist.__defaults__ != ('nccl',),
)
def join_process_group() -> None:
    """Replaces `init_dist`. The probe checks the signature for the fixed nccl: it has no process group to join."""
    replace(dist_util, 'init_dist', init_dist)
