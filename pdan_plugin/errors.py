"""The one exception that means: what was asked for cannot be done as it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class RequestError(ValueError):
    """A request the user can mend: an option file, a path, a data set, a weights file.

    The message names the file, key, shape or sample at fault, says what was expected, and says what to do. Commands
    print it without a traceback and exit with status 2. What can be found before a run is found before anything is
    written; some of it, such as a picture that turns out to be damaged, shows only on the way.
    """


@contextmanager
def refusing_unwritable(path: str) -> Iterator[None]:
    """For what a run writes before it begins: an OSError becomes a RequestError that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise RequestError(
            f'{error.filename or path}: cannot be written: {error.strerror or error}; free the disk or allow writing '
            'there, or start in another working folder'
        ) from error


class WorkError(RuntimeError):
    """Work that was asked for rightly failed on the way; its message says why. Exit status 1, no traceback."""
