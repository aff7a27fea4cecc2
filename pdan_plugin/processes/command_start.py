"""The door of the ``basicsr`` command: what is refused before the command itself can be imported.

Importing the package checks that the real toolbox is there. When that is refused inside the command, the user is to see
the message and exit status 2, not a traceback; inside a program that imports the package, the exception. This module
needs nothing but the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from pdan_plugin.errors import RequestError

WRONG_REQUEST = 2


def started_as_command() -> bool:
    """Whether this process is the ``basicsr`` command."""
    return started_as_script() or started_as_module()


def started_as_script() -> bool:
    """Whether this process is the installed script ``basicsr``."""
    return Path(sys.argv[0]).name.lower() in ('basicsr', 'basicsr.exe', 'basicsr-script.py')


def started_as_module() -> bool:
    """Whether this process is ``python -m pdan_plugin``."""
    given = getattr(sys, 'orig_argv', [])
    return any(pair == ('-m', 'pdan_plugin') for pair in pairwise(given))


def print_refusal(error: RequestError) -> None:
    """A refused request as the user sees it."""
    print(f'basicsr: {error}', file=sys.stderr, flush=True)


@contextmanager
def refusals_end_the_command() -> Iterator[None]:
    """Inside the command, a RequestError is printed and ends the process with status 2; elsewhere it is raised."""
    try:
        yield
    except RequestError as error:
        if not started_as_command():
            raise
        print_refusal(error)
        raise SystemExit(WRONG_REQUEST) from None
