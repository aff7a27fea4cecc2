"""Decides, before the toolbox is imported, whether importing this package prepares the toolbox.

It does, except in the ``basicsr`` command, which prepares the toolbox before it runs a subcommand. This module imports
nothing slow.
"""

from __future__ import annotations

import importlib.util
import io
import os
import platform
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import bound_cores, cores_of_this_rank

WRONG_REQUEST = 2

_prepare: Callable[[], None] = lambda: None  # noqa: E731 (until the package sets it)


def compute_on_the_cpu_what_a_gpu_lacks() -> None:
    """Lets torch compute operations on the CPU that Apple's and Intel's GPUs lack, with a warning for each.

    Torch reads these variables when it is imported. A value that is set already stays.
    """
    for name in ('PYTORCH_ENABLE_MPS_FALLBACK', 'PYTORCH_ENABLE_XPU_FALLBACK'):
        os.environ.setdefault(name, '1')


# About 50 microseconds on an x86 processor, longer than from one operation to the next. It is for GNU's OpenMP, which
# torch has on Linux; there a turn of the waiting loop of another processor takes another time.
_SPIN_COUNT = '2000'
_SPIN_COUNT_IS_FOR = 'x86_64'


def wait_without_taking_cores() -> None:
    """Lets torch's threads sleep while they wait for each other, after 50 microseconds of waiting awake.

    By default they wait awake for milliseconds at each operation. On a busy machine the thread that is waited for has
    no core meanwhile, and a network takes several times as long. A choice of the user stays. OpenMP reads these
    variables when torch is imported.
    """
    if 'OMP_WAIT_POLICY' not in os.environ and platform.machine() == _SPIN_COUNT_IS_FOR:
        os.environ.setdefault('GOMP_SPINCOUNT', _SPIN_COUNT)


_THREADS = 'OMP_NUM_THREADS'
_threads_of_quota: str | None = None


def compute_on_the_granted_cores() -> None:
    """Gives torch as many threads as the quota of a container allows.

    Torch counts the cores to which the process is bound. With more threads than the quota, all of them stand still for
    a part of each period. A choice of the user, or of a launcher for its ranks, stays. OpenMP reads the variable when
    torch is imported.
    """
    global _threads_of_quota
    cores = cores_of_this_rank()
    if _THREADS not in os.environ and cores < bound_cores():
        os.environ[_THREADS] = _threads_of_quota = str(cores)


def environment_for_ranks() -> dict[str, str]:
    """The environment without the threads that :func:`compute_on_the_granted_cores` gave to this process alone."""
    return {name: value for name, value in os.environ.items() if (name, value) != (_THREADS, _threads_of_quota)}


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

    Without it a command that has done all its work ends in a UnicodeEncodeError when it prints a name. Where a stream
    is closed (``2>&-``), Python has None in its place, which nothing can be printed to; what is printed goes nowhere.
    """
    for name in ('stdout', 'stderr'):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, 'w', encoding='utf-8'))  # noqa: SIM115 (open as long as the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ('strict', 'surrogateescape'):
            stream.reconfigure(errors='backslashreplace')


def print_refusal(error: RequestError) -> None:
    """Prints a rejected request on stderr."""
    print(f'basicsr: {error}', file=sys.stderr, flush=True)
