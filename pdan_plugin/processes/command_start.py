"""The start of the ``basicsr`` command, and of every process: what happens before the toolbox is imported.

Importing the package prepares the toolbox, except in the command, which does so when a subcommand is about to run. This
module needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

from pdan_plugin.errors import RequestError

WRONG_REQUEST = 2


def started_as_script() -> bool:
    """Whether this process is the installed script ``basicsr``."""
    return Path(sys.argv[0]).name.lower() in ('basicsr', 'basicsr.exe', 'basicsr-script.py')


def started_as_module() -> bool:
    """Whether this process is ``python -m pdan_plugin``."""
    given = getattr(sys, 'orig_argv', [])
    return any(pair == ('-m', 'pdan_plugin') for pair in pairwise(given))


def prepares_the_toolbox_itself() -> bool:
    """Whether this process is the command, which calls `prepare_toolbox` once a subcommand needs the toolbox.

    A worker that multiprocessing spawns has the command's ``sys.argv`` without being the command.
    """
    return started_as_module() or (started_as_script() and sys.argv[0] in getattr(sys, 'orig_argv', []))


def toolbox_can_be_found() -> bool:
    """Whether `import basicsr` finds a package; nothing is imported. Python takes any folder for one without a file."""
    try:
        found = importlib.util.find_spec('basicsr')
    except ImportError:  # an import hook keeps it away
        return False
    return found is not None and found.origin is not None


def print_refusal(error: RequestError) -> None:
    """A refused request as the user sees it."""
    print(f'basicsr: {error}', file=sys.stderr, flush=True)
