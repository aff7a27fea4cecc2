"""The two errors that end a command without a traceback, and how their messages name files and lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os import PathLike


class RequestError(ValueError):
    """A request the user can mend: an option file, a path, a data set, a weights file.

    The message names the file, key, shape or sample at fault, says what was expected, and says what to do. Commands
    print it without a traceback and exit with status 2. What can be found before a run is found before anything is
    written; some of it, such as a picture that turns out to be damaged, shows only on the way.
    """


class WorkError(RuntimeError):
    """Work that was asked for rightly failed on the way; its message says why. Exit status 1, no traceback."""


@contextmanager
def refusing_unwritable(path: str | PathLike[str]) -> Iterator[None]:
    """For what a run writes before it begins: an OSError becomes a RequestError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise RequestError(f'{_unwritable(error, path)}, or start in another working folder') from error


@contextmanager
def failing_unwritable(path: str | PathLike[str]) -> Iterator[None]:
    """For what a run writes on its way: an OSError becomes a WorkError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise WorkError(f'{_unwritable(error, path)}, and run the same command again') from error


def some_of(names: Iterable[str], most: int = 10, *, between: str = ', ') -> str:
    """The first names, and how many more there are: ``a, b and 3 more``; ``none`` if there are none."""
    every = list(names)
    text = between.join(every[:most]) or 'none'
    more = ' and' if between == ', ' else f'{between}and'
    return f'{text}{more} {len(every) - most} more' if len(every) > most else text


def first_of(lines: Iterable[str], most: int = 20) -> list[str]:
    """The first lines, and one that says how many more there are."""
    every = list(lines)
    return [*every[:most], f'... and {len(every) - most} more like these'] if len(every) > most else every


def _unwritable(error: OSError, path: str | PathLike[str]) -> str:
    reason = error.strerror or str(error)
    if error.filename is not None and str(error.filename) != str(path):  # a folder of it, or what it is made of
        reason += f': {error.filename}'
    return f'{path}: cannot be written: {reason}; free the disk or allow writing there'
