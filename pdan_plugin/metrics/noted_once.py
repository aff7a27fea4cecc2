"""Notes of metrics in the log, once each: a validation scores many pictures of a size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from basicsr.utils import get_root_logger

_told: set[str] = set()
_is_trial = False


def note_once(text: str) -> None:
    """A warning in the log, once for each text."""
    if text not in _told and not _is_trial:
        _told.add(text)
        get_root_logger().warning(text)


@contextmanager
def trial_of_metrics() -> Iterator[None]:
    """Inside the block nothing is noted, so that the run itself does it."""
    global _is_trial
    _is_trial = True
    try:
        yield
    finally:
        _is_trial = False


def forget_notes() -> None:
    """Lets each note come again, as in a new process."""
    _told.clear()
