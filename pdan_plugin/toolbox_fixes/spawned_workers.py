"""Data loader workers: imports in spawned workers, and signals that would end them."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from typing import Any

import torch.utils.data
from basicsr import data as toolbox_data

from pdan_plugin.processes.worker_contexts import worker_context
from pdan_plugin.processes.worker_signals import IS_SUPPORTED
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


@fix(
    where='data/__init__.py:79',
    upstream='#533',
    symptom='a spawned worker fails while it unpickles a stock dataset: its import of basicsr has no shim',
    is_called_for=lambda: _import_is_shimmed(),
    behaves=lambda: _workers_have_a_context('spawn'),
)
def spawned_workers_import_the_fixes() -> None:
    """A worker in a new interpreter unpickles first its process object, then the dataset.

    With a process class of this package, the worker imports the package, and so the fixes, before the dataset's class.
    If no shim is needed, a worker can import the toolbox without it.
    """
    _give_context_to({'spawn', 'forkserver'})


@fix(
    where='data/__init__.py:79',
    upstream='none',
    symptom='SIGTERM or Ctrl-C to all processes of a run kills its workers, so the run fails before it can save',
    is_called_for=lambda: IS_SUPPORTED,
    behaves=lambda: _workers_have_a_context('fork'),
)
def workers_heed_their_parent_alone() -> None:
    """The workers' process class blocks the stop signals that a launcher, terminal or slurm sends to all processes."""
    _give_context_to({'fork', 'spawn', 'forkserver'})


def _give_context_to(methods: set[str]) -> None:
    published = toolbox_data.build_dataloader

    @functools.wraps(published)
    def build_dataloader(*args: Any, **kwargs: Any) -> torch.utils.data.DataLoader:
        loader = published(*args, **kwargs)
        is_free = loader.num_workers > 0 and loader.multiprocessing_context is None
        if is_free and multiprocessing.get_start_method() in methods:
            loader.multiprocessing_context = worker_context()
        return loader

    replace(toolbox_data, 'build_dataloader', build_dataloader)


def _import_is_shimmed() -> bool:
    """Whether a shim of `imports` is loaded; shims have no loader."""
    shims = ('torchvision.transforms.functional_tensor', 'scipy.ndimage.filters', 'distutils')
    there = [sys.modules[name] for name in shims if name in sys.modules]
    return any(getattr(module.__spec__, 'loader', None) is None for module in there)


@probe
def _workers_have_a_context(start_method: str) -> bool:
    """Builds a loader, without starting workers, while the process reports this start method."""
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1}
    with swapped(multiprocessing, get_start_method=lambda *args, **kwargs: start_method):
        loader = toolbox_data.build_dataloader(range(1), dataset_opt, num_gpu=0)
    return loader.multiprocessing_context is not None
