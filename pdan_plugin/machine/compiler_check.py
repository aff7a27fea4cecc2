"""Checks that this machine has the compiler that torch.compile needs."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from pdan_plugin.errors import RequestError


def require_compiler(*, on_gpu: bool) -> None:
    """Checks for what torch.compile needs: a C++ compiler on a CPU, Triton and a C compiler on a GPU, and Python's C
    headers for both.

    Raises:
        RequestError: It is not installed; the message names the package to install.
    """
    compiler = _compiler_on_gpu() if on_gpu else _compiler_on_cpu()
    folders = [sysconfig.get_path('include'), sysconfig.get_path('include', 'posix_prefix')]
    if sys.platform == 'linux' and not any((Path(folder) / 'Python.h').is_file() for folder in folders):
        raise RequestError(
            f"needs Python's C headers for the compiler ({compiler}), and {folders[0]} holds no Python.h; "
            'install them (in Debian and Ubuntu the package python3-dev), or do not compile'
        )


def _compiler_on_gpu() -> str:
    """The C compiler with which Triton builds what starts its kernels: CC, else gcc or clang."""
    if importlib.util.find_spec('triton') is None:
        package = 'triton-windows' if sys.platform == 'win32' else 'triton'
        raise RequestError(f'needs the package triton on a GPU: pip install {package}; or do not compile')
    if sys.platform == 'win32':  # Triton for Windows brings its own
        return 'of triton-windows'
    asked = os.environ.get('CC')
    found = [name for name in ([asked] if asked is not None else ['gcc', 'clang']) if _is_installed(name)]
    if not found:
        place = f'CC={asked} is not there' if asked is not None else 'neither gcc nor clang is found'
        raise RequestError(
            f'needs a C compiler beside Triton on a GPU, and {place}; install one (in Debian and Ubuntu the package '
            'gcc), name one in the environment variable CC, or do not compile'
        )
    return found[0]


def _is_installed(command: str) -> bool:
    words = shlex.split(command)
    return bool(words) and shutil.which(words[0]) is not None


def _compiler_on_cpu() -> str:
    # imported here because it takes a second and few runs compile
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return get_cpp_compiler()
    except RuntimeError as error:
        raise RequestError(
            'needs a C++ compiler on a CPU, and none is found (g++, on macOS clang++, on Windows cl, or the one in the '
            'environment variable CXX); install one (in Debian and Ubuntu the package g++), or do not compile'
        ) from error
