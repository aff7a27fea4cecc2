"""Does this machine have what torch.compile needs?"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path

from pdan_plugin.errors import RequestError


def require_compiler(*, on_gpu: bool) -> None:
    """Looks for what the code that torch.compile writes is built with: on a CPU a C++ compiler, on a GPU Triton.

    Raises:
        RequestError: It is not here.
    """
    if on_gpu:
        if importlib.util.find_spec('triton') is None:
            raise RequestError('needs the package triton on a GPU, which is not installed; install it, or leave it out')
        return
    # imported here: it takes a second, and few runs compile
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        compiler = get_cpp_compiler()
    except RuntimeError as error:
        raise RequestError(
            'needs a C++ compiler on a CPU, and none is found (g++, on macOS clang++, on Windows cl; or what the '
            'environment variable CXX names); install one, or leave it out'
        ) from error
    folders = [sysconfig.get_path('include'), sysconfig.get_path('include', 'posix_prefix')]
    if sys.platform == 'linux' and not any((Path(folder) / 'Python.h').is_file() for folder in folders):
        raise RequestError(
            f"needs Python's C headers beside the compiler ({compiler}), and {folders[0]} holds no Python.h; "
            'install them (in Debian and Ubuntu the package python3-dev), or leave it out'
        )
