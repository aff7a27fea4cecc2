"""Prefetching of batches."""

from __future__ import annotations

import contextlib
import functools
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from basicsr.data import prefetch_dataloader
from torch.utils.data import DataLoader

from pdan_plugin.data.prefetching import PrefetchIterator
from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


@fix(
    where='data/prefetch_dataloader.py:27',
    upstream='none',
    symptom='prefetch_mode: cpu hangs for ever when a sample raises',
    behaves=lambda: _error_of_a_sample_comes_out(),
)
def prefetching_passes_errors_on() -> None:
    """Replaces `PrefetchGenerator`: its thread ended with the error, and the trainer waited for ever."""
    replace(prefetch_dataloader, 'PrefetchGenerator', PrefetchIterator)


@fix(
    where='data/prefetch_dataloader.py:100',
    upstream='none',
    symptom='prefetch_mode: cuda on a CPU fails with a message about torch, not about the option',
    behaves=lambda: _names_prefetch_mode(),
)
def cuda_prefetcher_needs_cuda() -> None:
    """The error names the option."""
    published = prefetch_dataloader.CUDAPrefetcher.__init__

    @functools.wraps(published)
    def __init__(self: Any, loader: DataLoader, opt: dict[str, Any]) -> None:
        if not torch.cuda.is_available() or opt['num_gpu'] == 0:
            raise RequestError(
                'datasets: train: prefetch_mode: cuda needs a CUDA device, and this run has none; '
                'write `prefetch_mode: cpu`, or remove the option'
            )
        published(self, loader, opt)

    replace(prefetch_dataloader.CUDAPrefetcher, '__init__', __init__)


@probe
def _names_prefetch_mode() -> bool:
    try:
        _cuda_prefetcher(_NothingYet())
        return False
    except Exception as error:
        return 'prefetch_mode' in str(error)


@fix(
    where='data/prefetch_dataloader.py:73,102',
    upstream='none',
    symptom='workers start and read batches that are discarded before the first iteration',
    behaves=lambda: _read_nothing_when_built(),
)
def no_epoch_before_the_first() -> None:
    """Delays the first iterator to `reset`, which the trainer calls after `set_epoch`; stock prefetchers start one when
    built."""
    for prefetcher in (prefetch_dataloader.CPUPrefetcher, prefetch_dataloader.CUDAPrefetcher):
        replace(prefetcher, '__init__', _with_a_deferred_loader(prefetcher.__init__))
        replace(prefetcher, 'next', _resetting_first(prefetcher.next))


class _NothingYet:
    """A loader without batches for the published constructor."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _with_a_deferred_loader(published: Any) -> Any:
    @functools.wraps(published)
    def __init__(self: Any, loader: DataLoader, *args: Any) -> None:
        published(self, _NothingYet(), *args)
        self.ori_loader = loader
        self.loader = None

    return __init__


def _resetting_first(published: Any) -> Any:
    @functools.wraps(published)
    def following(self: Any) -> Any:
        if self.loader is None:
            self.reset()
        batch = published(self)
        for value in batch.values() if isinstance(batch, dict) else ():
            if torch.is_tensor(value) and value.is_cuda:
                # It was allocated on the copy stream. Without record_stream, torch may reuse its memory for the next
                # copy before the kernels that read it have run.
                value.record_stream(torch.cuda.current_stream())
        return batch

    return following


class _ProbeError(Exception):
    pass


class _ImpatientQueue(queue.Queue[Any]):
    """Has a timeout; the published iterator would wait for ever."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(timeout=0.001)


@probe
def _error_of_a_sample_comes_out() -> bool:
    raised: list[BaseException] = []

    def failing() -> Iterator[Any]:
        raise _ProbeError
        yield

    def take() -> None:
        try:
            batches = prefetch_dataloader.PrefetchGenerator(failing(), 1)
            if isinstance(batches, threading.Thread):
                batches.join(timeout=1)  # until the hook has received its error
            next(batches)
        except BaseException as error:
            raised.append(error)

    with (
        swapped(threading, excepthook=lambda _: None),
        swapped(prefetch_dataloader, Queue=SimpleNamespace(Queue=_ImpatientQueue)),
    ):
        # in a separate thread, in case this iterator waits for ever in another way
        taking = threading.Thread(target=take, daemon=True)
        taking.start()
        taking.join(timeout=0.2)
    return bool(raised) and isinstance(raised[0], _ProbeError)


def _cuda_prefetcher(loader: Any) -> Any:
    """A CUDAPrefetcher for a run without CUDA. It uses no device, even if the machine has one."""
    cuda = SimpleNamespace(is_available=lambda: False, Stream=lambda: None)
    with swapped(prefetch_dataloader, torch=SimpleNamespace(cuda=cuda, device=torch.device)):
        return prefetch_dataloader.CUDAPrefetcher(loader, {'num_gpu': 0})


@probe
def _read_nothing_when_built() -> bool:
    return not any(_begins_when_built(each) for each in (prefetch_dataloader.CPUPrefetcher, _cuda_prefetcher))


def _begins_when_built(build: Any) -> bool:
    begun = []

    class Loader(_NothingYet):
        def __iter__(self) -> Iterator[Any]:
            begun.append(self)
            return super().__iter__()

    with contextlib.suppress(RequestError):  # from `cuda_prefetcher_needs_cuda`
        build(Loader())
    return bool(begun)
