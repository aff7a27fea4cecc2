"""Tries parts of a run before it starts: their exceptions become RequestErrors, and they log nothing."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pdan_plugin.errors import RequestError


@contextmanager
def toolbox_silent() -> Iterator[None]:
    """Hides the log lines of data sets and networks while they are built; the run itself logs them later."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)


@contextmanager
def as_request(what: str) -> Iterator[None]:
    """An exception in the block becomes a RequestError that begins with ``what`` and names the cause and its place."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f'{what}: {error}') from error
    except KeyError as error:
        raise RequestError(f'{what}: it reads the key {error}, which is not given{_place(error)}') from error
    except Exception as error:
        raise RequestError(f'{what}: {type(error).__name__}: {error}{_place(error)}') from error


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f' (at {frame.filename}:{frame.lineno})'
