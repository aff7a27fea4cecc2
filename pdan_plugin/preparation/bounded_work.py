"""Process many frames in threads, in order, with few of them in memory at a time.

Threads, not processes: decoding, checksums and compression release Python's lock, nothing is copied between
processes, and a killed run leaves no worker behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from pdan_plugin.errors import RequestError

_Item = TypeVar('_Item')
_Answer = TypeVar('_Answer')


def in_order(
    function: Callable[[_Item], _Answer], items: Iterable[_Item], workers: int
) -> Iterator[tuple[_Item, _Answer | RequestError]]:
    """Yield each item with ``function(item)``, in the items' order; at most two results per worker wait in memory.

    A `RequestError` is yielded as a result, so that one bad frame does not hide the others. Other errors are raised.
    """

    def answer(item: _Item) -> _Answer | RequestError:
        try:
            return function(item)
        except RequestError as error:
            return error

    remaining = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[_Item, Future[_Answer | RequestError]]] = deque(
            (item, pool.submit(answer, item)) for item in islice(remaining, 2 * workers)
        )
        try:
            while waiting:
                item, future = waiting.popleft()
                result = future.result()
                for following in islice(remaining, 1):
                    waiting.append((following, pool.submit(answer, following)))
                yield item, result
        finally:
            pool.shutdown(cancel_futures=True)
