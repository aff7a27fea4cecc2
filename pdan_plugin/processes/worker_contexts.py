"""Worker processes that import this package first and whose signals come from their parent alone."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
from multiprocessing import resource_tracker

from pdan_plugin.processes.worker_signals import FollowsItsParent


class SpawnedWorker(FollowsItsParent, multiprocessing.context.SpawnProcess):
    """A spawned process whose unpickling begins with this module, and so with `import pdan_plugin`."""

    def start(self) -> None:
        resource_tracker.ensure_running()  # starting it unblocks the signals that are to be blocked
        super().start()


class SpawnedWorkerContext(multiprocessing.context.SpawnContext):
    Process = SpawnedWorker


_CONTEXTS: dict[str, type[multiprocessing.context.BaseContext]] = {'spawn': SpawnedWorkerContext}

if 'forkserver' in multiprocessing.get_all_start_methods():

    class ForkServerWorker(FollowsItsParent, multiprocessing.context.ForkServerProcess):
        """A process of the fork server, which also begins with `import pdan_plugin`."""

        def start(self) -> None:
            resource_tracker.ensure_running()
            super().start()

    class ForkServerWorkerContext(multiprocessing.context.ForkServerContext):
        Process = ForkServerWorker

    _CONTEXTS['forkserver'] = ForkServerWorkerContext

if 'fork' in multiprocessing.get_all_start_methods():

    class ForkedWorker(FollowsItsParent, multiprocessing.context.ForkProcess):
        """A forked process: it has the memory of its parent, and blocks signals as the others do."""

    class ForkedWorkerContext(multiprocessing.context.ForkContext):
        Process = ForkedWorker

    _CONTEXTS['fork'] = ForkedWorkerContext


def worker_context() -> multiprocessing.context.BaseContext:
    """The context for data loader workers under the process's start method."""
    return _CONTEXTS[multiprocessing.get_start_method()]()
