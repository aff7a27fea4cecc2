"""Worker processes that import this package first and obey signals from their parent only."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from multiprocessing import resource_tracker

from pdan_plugin.processes.worker_signals import FollowsItsParent


class SpawnedWorker(FollowsItsParent, multiprocessing.context.SpawnProcess):
    """A spawned process. Unpickling it imports this module first, and so `pdan_plugin`."""

    def start(self) -> None:
        resource_tracker.ensure_running()  # before signals are blocked: starting the tracker unblocks them
        super().start()


class SpawnedWorkerContext(multiprocessing.context.SpawnContext):
    Process = SpawnedWorker


_CONTEXTS: dict[str, type[multiprocessing.context.BaseContext]] = {'spawn': SpawnedWorkerContext}

if 'forkserver' in multiprocessing.get_all_start_methods():

    class ForkServerWorker(FollowsItsParent, multiprocessing.context.ForkServerProcess):
        """A process of the fork server, which also imports `pdan_plugin` first."""

        def start(self) -> None:
            resource_tracker.ensure_running()
            super().start()

    class ForkServerWorkerContext(multiprocessing.context.ForkServerContext):
        Process = ForkServerWorker

    _CONTEXTS['forkserver'] = ForkServerWorkerContext

if 'fork' in multiprocessing.get_all_start_methods():

    class ForkedWorker(FollowsItsParent, multiprocessing.context.ForkProcess):
        """A forked process. It needs no import, and blocks signals like the others."""

    class ForkedWorkerContext(multiprocessing.context.ForkContext):
        Process = ForkedWorker

    _CONTEXTS['fork'] = ForkedWorkerContext


def worker_context() -> multiprocessing.context.BaseContext:
    """The context for data loader workers with the process's start method."""
    return _CONTEXTS[multiprocessing.get_start_method()]()
