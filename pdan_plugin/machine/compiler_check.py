"""Checks that this machine has the compiler that torch.compile needs."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

from pdan_plugin.errors import RequestError


def require_compiler(*, on_gpu: bool) -> None:
    """Checks for the compiler of torch.compile: a C++ compiler on a CPU, Triton on a GPU.

    Raises:
        RequestError: It is not installed.
    """
    if on_gpu:
        if importlib.util.find_spec('triton') is None:
            raise RequestError('needs the package triton on a GPU; install it, or do not compile')
        return
    # imported here because it takes a second and few runs compile
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        compiler = get_cpp_compiler()
    except RuntimeError as error:
        raise RequestError(
            'needs a C++ compiler on a CPU, and none is found (g++, on macOS clang++, on Windows cl, or the one in the '
            'environment variable CXX); install one, or do not compile'
        ) from error
    folders = [sysconfig.get_path('include'), sysconfig.get_path('include', 'posix_prefix')]
    if sys.platform == 'linux' and not any((Path(folder) / 'Python.h').is_file() for folder in folders):
        raise RequestError(
            f"needs Python's C headers for the compiler ({compiler}), and {folders[0]} holds no Python.h; "
            'install them (in Debian and Ubuntu the package python3-dev), or do not compile'
        )
