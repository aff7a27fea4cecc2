"""The two errors that end a command without a traceback, and helpers for their messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike


class RequestError(ValueError):
    """An error that the user can correct: in an option file, a path, a data set, a weights file.

    The message names the file, key, shape or sample, what was expected, and what to do. Commands print it without a
    traceback and exit with status 2. If possible it is raised before anything is written. Some errors, such as a
    damaged picture, appear only during the work.
    """


class WorkError(RuntimeError):
    """A valid request failed during the work; the message gives the reason. Exit status 1, no traceback."""


@contextmanager
def refusing_unwritable(path: str | PathLike[str]) -> Iterator[None]:
    """For files written before a run begins: an OSError becomes a RequestError with the path and the reason."""
    try:
        yield
    except OSError as error:
        raise RequestError(f'{_unwritable(error, path)}, or start in another working folder') from error


@contextmanager
def failing_unwritable(path: str | PathLike[str]) -> Iterator[None]:
    """For files written during a run: an OSError becomes a WorkError with the path and the reason."""
    try:
        yield
    except OSError as error:
        raise WorkError(f'{_unwritable(error, path)}, and run the same command again') from error


def some_of(names: Iterable[str], most: int = 10, *, between: str = ', ') -> str:
    """The first names and the number of others: ``a, b and 3 more``; ``none`` for an empty list."""
    every = list(names)
    text = between.join(every[:most]) or 'none'
    more = ' and' if between == ', ' else f'{between}and'
    return f'{text}{more} {len(every) - most} more' if len(every) > most else text


def first_of(lines: Iterable[str], most: int = 20) -> list[str]:
    """The first lines, and a line with the number of others."""
    every = list(lines)
    return [*every[:most], f'... and {len(every) - most} more like these'] if len(every) > most else every


def _unwritable(error: OSError, path: str | PathLike[str]) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None and str(error.filename) != str(path):  # for example its folder
        reason += f': {error.filename}'
    return f'{path}: cannot be written: {reason}; free disk space or allow writing there'
