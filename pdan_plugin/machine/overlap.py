"""Stages that run at the same time: reading ahead of the work, and finishing behind it.

Threads, not processes: decoding, compression and the network release Python's lock, and nothing is copied. Every queue
is bounded, everything keeps its order, and an error reaches the caller at the item that caused it. When the caller
stops, for example by Ctrl-C, what has not begun is dropped, and what has begun ends before the caller goes on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar('Item')
Value = TypeVar('Value')
Result = TypeVar('Result')


class Stopped(Exception):
    """A stage ended because the caller stops."""


@dataclass(frozen=True)
class Stages(Generic[Item, Value, Result]):
    """What is done to every item.

    Attributes:
        read: In a thread, before the item's turn.
        work: In the calling thread, in order: of the values of one item, or of some that may be worked on together.
        finish: In a thread, after the work.
        size: Bytes that an item takes from its reading to its end.
        together: Whether another value may be worked on with the first of a group, which would then be of ``count``.
            Only values that are ready are asked for.
    """

    read: Callable[[Item], Value]
    work: Callable[[Sequence[Item], Sequence[Value]], Sequence[Result]]
    finish: Callable[[Item, Result], None]
    size: Callable[[Item], int] = lambda item: 0
    together: Callable[[Value, Value, int], bool] = lambda first, other, count: False


@dataclass(frozen=True)
class Limits:
    """How far stages may be apart.

    Attributes:
        readers: Threads that read; as many items again may be read and wait.
        finishers: Threads that finish; as many items again may wait for them. Items that are finished and wait only
            for their turn in the order do not count.
        most_bytes: What all items under way may take; a larger item is alone.
        most_finished: Finished items that may wait for an earlier one.
    """

    readers: int = 2
    finishers: int = 2
    most_bytes: int = 2**30
    most_finished: int = 64


def overlapped(
    items: Iterable[Item],
    stages: Stages[Item, Value, Result],
    limits: Limits,
    stopping: threading.Event | None = None,
) -> Generator[tuple[Item, Exception | None]]:
    """Yields each item in order when it is finished, with the error of the stage that failed, if one did.

    The caller closes the generator (`contextlib.closing`): then nothing of it runs any more.

    Args:
        stopping: Set when the caller stops before the end, so that a long stage can look at it and end.
    """
    with _Threads(limits.readers, 'reading') as readers, _Threads(limits.finishers, 'finishing') as finishers:
        try:
            yield from _run(iter(items), stages, limits, readers, finishers)
        except BaseException:
            if stopping is not None:
                stopping.set()
            raise


def _run(
    waiting: Iterator[Item],
    stages: Stages[Item, Value, Result],
    limits: Limits,
    readers: ThreadPoolExecutor,
    finishers: ThreadPoolExecutor,
) -> Generator[tuple[Item, Exception | None]]:
    reading, finishing = deque[_Read[Item, Value]](), deque[_Finish[Item]]()
    following = next(waiting, None)
    while following is not None or reading or finishing:
        while following is not None and len(reading) < 2 * limits.readers:
            size = stages.size(following)
            taken = sum(each.size for each in reading) + sum(each.size for each in finishing if not each.future.done())
            if taken and taken + size > limits.most_bytes:
                break
            reading.append(_Read(following, size, readers.submit(stages.read, following)))
            following = next(waiting, None)
        if finishing and finishing[0].future.done():
            done = finishing.popleft()
            yield done.item, done.error()
            continue
        unfinished = [each.future for each in finishing if not each.future.done()]
        is_full = len(unfinished) >= 2 * limits.finishers or len(finishing) - len(unfinished) >= limits.most_finished
        if reading and not is_full:
            group = _next_group(reading, stages)
            for own, ended in zip(group, _worked(group, stages, finishers), strict=True):
                finishing.append(_Finish(own.item, own.size, ended))
        elif finishing:
            wait(unfinished, return_when=FIRST_COMPLETED)  # any: a large item does not hold up those behind it


def _next_group(reading: deque[_Read[Item, Value]], stages: Stages[Item, Value, Result]) -> list[_Read[Item, Value]]:
    group = [reading.popleft()]
    if group[0].future.exception() is None:  # waits for it
        first = group[0].future.result()
        while reading and reading[0].future.done() and reading[0].future.exception() is None:
            if not stages.together(first, reading[0].future.result(), len(group) + 1):
                break
            group.append(reading.popleft())
    return group


def _worked(
    group: Sequence[_Read[Item, Value]], stages: Stages[Item, Value, Result], finishers: ThreadPoolExecutor
) -> list[Future[None]]:
    """The ends of the items of a group; if the work on several fails, each is tried alone."""
    try:
        results = stages.work([own.item for own in group], [own.future.result() for own in group])
    except Exception as error:
        if len(group) > 1:
            return [ended for own in group for ended in _worked([own], stages, finishers)]
        failed: Future[None] = Future()
        failed.set_exception(error)
        return [failed]
    return [finishers.submit(stages.finish, own.item, result) for own, result in zip(group, results, strict=True)]


@dataclass(frozen=True)
class _Read(Generic[Item, Value]):
    item: Item
    size: int
    future: Future[Value]


@dataclass(frozen=True)
class _Finish(Generic[Item]):
    item: Item
    size: int
    future: Future[None]

    def error(self) -> Exception | None:
        try:
            self.future.result()
        except Exception as error:
            return error
        return None


class _Threads(ThreadPoolExecutor):
    """A pool of threads; leaving it drops what has not begun."""

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, thread_name_prefix=name)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        self.shutdown(cancel_futures=True)
        return None


class ReadAhead(Generic[Item]):
    """Runs an iterator in a thread, a few items ahead of the one who iterates over this. A context manager.

    An error of the iterator is raised at its place. Leaving the block ends the thread at its next item.
    :meth:`paused` keeps the thread still, for example while time is measured.

    Args:
        items: The iterator; it is closed in its thread if it is a generator.
        ahead: Items that may wait.
    """

    def __init__(self, items: Iterable[Item], ahead: int) -> None:
        self._items = items
        self._ready: deque[Item] = deque()
        self._change = threading.Condition()
        self._ahead, self._is_stopping, self._is_done = ahead, False, False
        self._is_paused, self._is_reading = False, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='reading ahead', daemon=True)

    def __enter__(self) -> ReadAhead[Item]:
        self._thread.start()
        return self

    def __exit__(self, *of_error: object) -> None:
        with self._change:
            self._is_stopping = True
            self._change.notify_all()
        self._thread.join()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Inside the block nothing is read. Waits for the item that is being read."""
        with self._change:
            self._is_paused = True
            self._change.wait_for(lambda: not self._is_reading)
        try:
            yield
        finally:
            with self._change:
                self._is_paused = False
                self._change.notify_all()

    def take_ready(self, fits: Callable[[Item], bool]) -> Item | None:
        """The next item, if it is ready and fits; waits for none."""
        with self._change:
            if not self._ready or not fits(self._ready[0]):
                return None
            item = self._ready.popleft()
            self._change.notify_all()
        return item

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._ready or self._is_done)
                if not self._ready:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._ready.popleft()
                self._change.notify_all()
            yield item
            del item

    def _run(self) -> None:
        iterator: Iterator[Item] | None = None
        try:
            while True:
                with self._change:
                    self._change.wait_for(
                        lambda: self._is_stopping or not (self._is_paused or len(self._ready) > self._ahead)
                    )
                    if self._is_stopping:
                        break
                    self._is_reading = True
                iterator = iter(self._items) if iterator is None else iterator
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                with self._change:
                    self._is_reading = False
                    self._ready.append(item)
                    self._change.notify_all()
                del item
        except BaseException as error:
            self._error = error
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
            with self._change:
                self._is_done, self._is_reading = True, False
                self._change.notify_all()


class WriteBehind:
    """Runs calls in one thread, in their order, while the caller goes on. A context manager.

    An error of a call is raised in the caller, by the next `add` or at the end of the block; later calls are dropped.
    At the end the block waits for all calls; after an error of the caller, only for the one under way.

    Args:
        behind: Calls that may wait; then `add` waits. With 0, `add` makes the call itself.
    """

    def __init__(self, behind: int) -> None:
        self._calls: deque[Callable[[], object]] = deque()
        self._change = threading.Condition()
        self._behind, self._is_over = behind, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name='writing behind', daemon=True)

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._change:
            if error is not None:
                self._calls.clear()
            self._is_over = True
            self._change.notify_all()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def add(self, call: Callable[[], object]) -> None:
        """Queues a call.

        Raises:
            Exception: An earlier call raised it.
        """
        if self._behind == 0:
            call()
            return
        with self._change:
            self._change.wait_for(lambda: len(self._calls) < self._behind or self._error is not None)
            if self._error is not None:
                raise self._error
            self._calls.append(call)
            self._change.notify_all()

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._calls or self._is_over)
                if not self._calls:
                    return
                call = self._calls.popleft()
                self._change.notify_all()
            try:
                call()
            except BaseException as error:
                with self._change:
                    self._error = error
                    self._calls.clear()
                    self._is_over = True
                    self._change.notify_all()
                return
            del call
