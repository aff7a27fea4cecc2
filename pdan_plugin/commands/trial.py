"""Trying parts of a run before it starts: what they raise becomes a refusal, and they log nothing."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from pdan_plugin.errors import RequestError


@contextmanager
def toolbox_silent() -> Iterator[None]:
    """No log lines of data sets and networks as they are built; the run itself will log them once."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)


@contextmanager
def as_request(what: str) -> Iterator[None]:
    """Whatever is raised within becomes a RequestError that begins with ``what`` and names the cause and its place."""
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
