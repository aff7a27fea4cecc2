"""Loads batches ahead of the training, in a thread."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

_END = object()


class PrefetchIterator:
    """Takes batches from an iterator in a separate thread, a few ahead.

    `next` raises the iterator's errors, with their traceback. The thread ends when this object is deleted.
    """

    def __init__(self, generator: Iterator[Any], num_prefetch_queue: int) -> None:
        self._batches: queue.Queue[Any] = queue.Queue(num_prefetch_queue)
        self._ended = False
        dropped = threading.Event()
        # the thread must not hold a reference to this object, which would keep it alive
        threading.Thread(target=_prefetch, args=(generator, self._batches, dropped), daemon=True).start()
        weakref.finalize(self, dropped.set)

    def __iter__(self) -> PrefetchIterator:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        batch, error = self._batches.get()
        if batch is not _END:
            return batch
        self._ended = True
        if error is not None:
            raise error
        raise StopIteration


def _prefetch(generator: Iterator[Any], batches: queue.Queue[Any], dropped: threading.Event) -> None:
    def put(entry: tuple[Any, BaseException | None]) -> None:
        while not dropped.is_set():
            try:
                return batches.put(entry, timeout=0.1)
            except queue.Full:
                continue

    try:
        for batch in generator:
            put((batch, None))
            if dropped.is_set():
                return
        put((_END, None))
    except BaseException as error:
        put((_END, error))
