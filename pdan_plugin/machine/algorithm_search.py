"""cuDNN's search for the fastest algorithm of each convolution, which costs time once for every size of the input."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Hashable, Iterable
from contextlib import contextmanager

import torch

_FEWEST = 8  # pictures of one size, from which on a search pays
_SHARE = 0.5  # of all pictures

_lock = threading.Lock()
_blocks: list[tuple[object, bool]] = []
_before = False


@contextmanager
def searching_algorithms(wanted: bool) -> Generator[None]:
    """Inside the block cuDNN searches for the fastest algorithm of a new size, or takes the usual one.

    A search pays where sizes repeat. The setting belongs to the process: with blocks in several threads that of the
    last one begun holds, and after all of them what was set before.
    """
    global _before
    token = object()
    with _lock:
        if not _blocks:
            _before = torch.backends.cudnn.benchmark
        _blocks.append((token, wanted))
        torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        with _lock:
            _blocks[:] = [each for each in _blocks if each[0] is not token]
            torch.backends.cudnn.benchmark = _blocks[-1][1] if _blocks else _before


def mostly_one_size(sizes: Iterable[Hashable]) -> bool:
    """Whether half of the pictures have one size, and at least eight do."""
    counted = Counter(sizes)
    most = max(counted.values(), default=0)
    return most >= _FEWEST and most >= _SHARE * counted.total()
