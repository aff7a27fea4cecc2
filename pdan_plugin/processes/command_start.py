"""Decides, before the toolbox is imported, whether importing this package prepares the toolbox.

It does, except in the ``basicsr`` command, which prepares the toolbox before it runs a subcommand. This module uses the
standard library only.
"""

from __future__ import annotations

import importlib.util
import io
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from pdan_plugin.errors import RequestError

WRONG_REQUEST = 2

_prepare: Callable[[], None] = lambda: None  # noqa: E731 (until the package sets it)


def compute_on_the_cpu_what_a_gpu_lacks() -> None:
    """Lets torch compute operations on the CPU that Apple's and Intel's GPUs lack, with a warning for each.

    Torch reads these variables when it is imported. A value that is set already stays.
    """
    for name in ('PYTORCH_ENABLE_MPS_FALLBACK', 'PYTORCH_ENABLE_XPU_FALLBACK'):
        os.environ.setdefault(name, '1')


def started_as_script() -> bool:
    """Whether this process is the installed script ``basicsr``."""
    return Path(sys.argv[0]).name.lower() in ('basicsr', 'basicsr.exe', 'basicsr-script.py')


def started_as_module(module: str = 'pdan_plugin') -> bool:
    """Whether this process is ``python -m MODULE``."""
    given = getattr(sys, 'orig_argv', [])
    return any(pair == ('-m', module) for pair in pairwise(given))


def started_under_older_name() -> bool:
    """Whether this process is one of the scripts of a checkout that only call a subcommand."""
    return hasattr(sys.modules.get('__main__'), 'BASICSR_COMMAND')


def prepares_the_toolbox_itself() -> bool:
    """Whether this process is the command, which calls `prepare_toolbox` itself before a subcommand runs, or the
    installer of the toolbox, which does not need it.

    A worker that multiprocessing spawned has the command's ``sys.argv``, but is not the command.
    """
    if started_as_module() or started_as_module('pdan_plugin.install_toolbox'):
        return True
    return (started_as_script() or started_under_older_name()) and sys.argv[0] in getattr(sys, 'orig_argv', [])


def prepare_later(prepare: Callable[[], None]) -> None:
    """Sets what `need_toolbox` calls. The package itself does this: rooms below it cannot import it."""
    global _prepare
    _prepare = prepare


def need_toolbox() -> None:
    """Prepares the toolbox, if the command has put that off. Call it before an import of `basicsr` inside a function.

    Raises:
        RequestError: See `pdan_plugin.prepare_toolbox`.
    """
    _prepare()


def toolbox_can_be_found() -> bool:
    """Whether `import basicsr` finds a package, without importing it. A folder without ``__init__.py`` does not
    count."""
    try:
        found = importlib.util.find_spec('basicsr')
    except ImportError:  # an import hook blocks it
        return False
    return found is not None and found.origin is not None


def print_any_name() -> None:
    """Makes the output streams escape what their encoding lacks, such as a name in another script or in no encoding.

    Without it a command that has done all its work ends in a UnicodeEncodeError when it prints a name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ('strict', 'surrogateescape'):
            stream.reconfigure(errors='backslashreplace')


def print_refusal(error: RequestError) -> None:
    """Prints a rejected request on stderr."""
    print(f'basicsr: {error}', file=sys.stderr, flush=True)
