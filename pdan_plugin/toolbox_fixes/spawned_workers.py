"""Data loader workers that are not forked: what they must import, in which order."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.context
import sys
from typing import Any

import torch.utils.data
from basicsr import data as toolbox_data

from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


class SpawnedWorker(multiprocessing.context.SpawnProcess):
    """A spawned process whose unpickling begins with this module, and so with `import pdan_plugin`."""


class SpawnedWorkerContext(multiprocessing.context.SpawnContext):
    Process = SpawnedWorker


_CONTEXTS: dict[str, type[multiprocessing.context.BaseContext]] = {'spawn': SpawnedWorkerContext}

if 'forkserver' in multiprocessing.get_all_start_methods():

    class ForkServerWorker(multiprocessing.context.ForkServerProcess):
        """Likewise for a process the fork server starts."""

    class ForkServerWorkerContext(multiprocessing.context.ForkServerContext):
        Process = ForkServerWorker

    _CONTEXTS['forkserver'] = ForkServerWorkerContext


def worker_context() -> multiprocessing.context.BaseContext | None:
    """The context for data loader workers under the process's start method; None where workers are forked."""
    context = _CONTEXTS.get(multiprocessing.get_start_method())
    return context() if context is not None else None


@fix(
    where='data/__init__.py:79',
    upstream='#533',
    symptom='a spawned worker dies while it unpickles a stock dataset: its own import of basicsr has no shim',
)
def spawned_workers_import_the_fixes() -> bool:
    """Workers that start in a fresh interpreter unpickle the process object first and the dataset after it.

    A process class of this package makes the child import the package, hence the fixes, before the dataset's class.
    Without shims a worker imports the toolbox by itself.
    """
    if not _import_is_shimmed() or _workers_have_a_context():
        return False
    published = toolbox_data.build_dataloader

    @functools.wraps(published)
    def build_dataloader(*args: Any, **kwargs: Any) -> torch.utils.data.DataLoader:
        loader = published(*args, **kwargs)
        if loader.num_workers > 0 and loader.multiprocessing_context is None:
            loader.multiprocessing_context = worker_context()
        return loader

    replace(toolbox_data, 'build_dataloader', build_dataloader)
    return True


def _import_is_shimmed() -> bool:
    """The modules of `imports` that stand in for others have no loader."""
    shims = ('torchvision.transforms.functional_tensor', 'scipy.ndimage.filters', 'distutils')
    there = [sys.modules[name] for name in shims if name in sys.modules]
    return any(getattr(module.__spec__, 'loader', None) is None for module in there)


@probe
def _workers_have_a_context() -> bool:
    """Of a loader that starts no worker, in a process whose start method, it is told, is 'spawn'."""
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1}
    with swapped(multiprocessing, get_start_method=lambda *args, **kwargs: 'spawn'):
        loader = toolbox_data.build_dataloader(range(1), dataset_opt, num_gpu=0)
    return loader.multiprocessing_context is not None
