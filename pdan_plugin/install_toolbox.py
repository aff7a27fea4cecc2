"""Installs BasicSR 1.4.2 into the Python that runs this: ``python -m pdan_plugin.install_toolbox``.

``pip install basicsr`` fails on Python 3.13 and later, and downloads torch a second time on every Python. Both come
from its ``setup.py``: it names torch as a build requirement, and it reads ``locals()['__version__']`` after an ``exec``
of the file that sets it, which Python 3.13 no longer supports (PEP 667). So this module installs the build requirements
first, builds without isolation, and from 3.13 on gives the build an ``exec`` that behaves as before. No file of the
toolbox is changed.

It uses the standard library and pip only, because it runs before anything else is installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TOOLBOX = 'basicsr==1.4.2'
# what its setup.py imports, with the lower bounds of this package
BUILD_REQUIREMENTS = {
    'torch': 'torch>=2.8',
    'torchvision': 'torchvision>=0.23',
    'setuptools': 'setuptools',
    'wheel': 'wheel',
    'Cython': 'cython',
    'numpy': 'numpy>=1.24',
}
DONE, FAILED, WRONG_REQUEST = 0, 1, 2

# A frame's f_locals writes through to the function's variables from Python 3.13 on.
EXEC_AS_BEFORE = """
import builtins, sys
_exec = builtins.exec

def exec(source, globals=None, locals=None, /, **closure):
    if globals is None and locals is None:
        caller = sys._getframe(1)
        globals, locals = caller.f_globals, caller.f_locals
    return _exec(source, globals, locals, **closure)

builtins.exec = exec
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Installs the toolbox if `import basicsr` finds none; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m pdan_plugin.install_toolbox',
        usage='%(prog)s [-h] [arguments of pip install ...]',
        description='Install BasicSR 1.4.2, also on Python 3.13 and later, where pip alone cannot build it. '
        'Other arguments are passed to pip, such as --constraint FILE.',
    )
    passed_on = list(sys.argv[1:] if argv is None else argv)
    parser.parse_args([word for word in passed_on if word in ('-h', '--help')])
    found = importlib.util.find_spec('basicsr')
    if found is not None and found.origin is not None:
        print(f'The toolbox is installed already: {Path(found.origin).parent}')
        return DONE
    if importlib.util.find_spec('pip') is None:
        print(f'This Python ({sys.executable}) has no pip: `python -m ensurepip`, then try again', file=sys.stderr)
        return WRONG_REQUEST
    return install(TOOLBOX, pip_arguments=passed_on)


def install(toolbox: str, name: str = 'basicsr', pip_arguments: Sequence[str] = ()) -> int:
    """Builds and installs the toolbox, then what it requires. Prints the next command if a step fails.

    Args:
        toolbox: As pip takes it: a name with a version, a folder or an archive.
        name: The name of its distribution.
        pip_arguments: Further arguments of `pip install`.

    Returns:
        0 if all is installed, else 1.
    """
    missing = [name for module, name in BUILD_REQUIREMENTS.items() if importlib.util.find_spec(module) is None]
    if missing:
        print(f'== installing what the toolbox is built with: {", ".join(missing)}', flush=True)
        if _pip([*pip_arguments, *missing]):
            return _report(_command(missing))
    print(f'== building {toolbox}', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        if _pip([*pip_arguments, '--no-build-isolation', '--no-deps', toolbox], _build_environment(Path(folder))):
            return _report('python -m pdan_plugin.install_toolbox')
    print('== installing what the toolbox requires', flush=True)
    importlib.invalidate_caches()
    required = importlib.metadata.requires(name) or []
    if required and _pip([*pip_arguments, *required]):  # not this module again: it would find the toolbox installed
        return _report(_command(required))
    return DONE


def _build_environment(folder: Path) -> dict[str, str]:
    """The environment of the build; from Python 3.13 on with an `exec` that behaves as before."""
    environment = dict(os.environ)
    if sys.version_info >= (3, 13):
        folder.joinpath('sitecustomize.py').write_text(EXEC_AS_BEFORE, encoding='utf-8')
        before = environment.get('PYTHONPATH')
        environment['PYTHONPATH'] = os.pathsep.join([str(folder), *([before] if before else [])])
    return environment


def _pip(arguments: Sequence[str], environment: dict[str, str] | None = None) -> int:
    command = [sys.executable, '-m', 'pip', 'install', '--disable-pip-version-check', *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _command(requirements: Sequence[str]) -> str:
    return shlex.join(['python', '-m', 'pip', 'install', *requirements])


def _report(again: str) -> int:
    print(f'The toolbox is not ready: pip failed (see above). When that is mended: `{again}`', file=sys.stderr)
    return FAILED


if __name__ == '__main__':
    sys.exit(main())
