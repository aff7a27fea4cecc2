"""Runs an example, or reads its arguments, in a process of its own.

The process is forked from a server that has imported torch and the package already. That takes milliseconds; a new
Python takes seconds. `basicsr ...` and `python FILE ...` run inside the process, other programs are started by it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warm_processes import begin_as_python, warm_context

REPOSITORY = Path(__file__).parents[2]

# Variables that slurm sets.
os.environ.setdefault('SLURM_ARRAY_TASK_ID', '1')

# Programs whose arguments are not read here.
_OTHER_PROGRAMS = {'git', 'cd', 'source', 'mkdocs', 'ruff', 'pyright', 'pre-commit'}


def in_process(function: Callable[..., None], *arguments: Any, folder: Path, log: Path) -> tuple[int, str]:
    """(exit status, output) of a function of this module, run in ``folder``."""
    process = warm_context().Process(target=_start, args=(function.__name__, arguments, str(folder), str(log)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, log.read_text(encoding='utf-8', errors='replace')


def run_commands(text: str) -> None:
    """Runs shell commands one after the other; the first that fails ends the process with its status."""
    for words in commands(text):
        status = _run(words)
        if status != 0:
            print(f'exit status {status}: {shlex.join(words)}')
            sys.exit(status)


def run_python(text: str) -> None:
    """Runs a Python example as a program."""
    sys.argv = ['example.py']
    exec(compile(text, 'example.py', 'exec'), {'__name__': '__main__'})


def parse_commands(text: str) -> None:
    """Reads the arguments of commands as the programs read them; a mistake ends the process with 2."""
    for words in commands(text):
        print(shlex.join(words))
        _parse(words)


def commands(text: str) -> list[list[str]]:
    """The commands of a block as words, without comments; `&&` separates two."""
    found: list[list[str]] = []
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.split(os.path.expandvars(line), comments=True)
        while '&&' in words:
            end = words.index('&&')
            found.append(words[:end])
            words = words[end + 1 :]
        if words:
            found.append(words)
    return found


class _Parsed(BaseException):
    """The arguments were read without a mistake."""


def _start(name: str, arguments: tuple[Any, ...], folder: str, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)
    begin_as_python()
    os.chdir(folder)
    sys.path[:0] = [str(REPOSITORY / 'scripts'), folder]
    try:
        globals()[name](*arguments)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout.flush()


def _run(words: list[str]) -> int:
    if '>' in words:
        with open(words[-1], 'w', encoding='utf-8') as output, contextlib.redirect_stdout(output):
            return _run(_without_redirection(words))
    program = _python_program(words)
    if program is None:
        return subprocess.run(words, check=False).returncode
    try:
        return program() or 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _without_redirection(words: list[str]) -> list[str]:
    """The words before `> FILE`, which is at the end."""
    return words[: words.index('>')] if '>' in words else words


def _python_program(words: list[str]) -> Callable[[], int | None] | None:
    """The call that is `basicsr ...`, `python -m pdan_plugin ...` or `python FILE ...`; None for another program."""
    from pdan_plugin import install_toolbox
    from pdan_plugin.commands.main import main

    if words[0] == 'basicsr' or words[:3] == ['python', '-m', 'pdan_plugin']:
        arguments = words[1:] if words[0] == 'basicsr' else words[3:]
        sys.argv = ['basicsr', *arguments]
        return lambda: main(arguments)
    if words[:3] == ['python', '-m', 'pdan_plugin.install_toolbox']:
        return lambda: install_toolbox.main(words[3:])
    if words[0] == 'python' and words[1].endswith('.py'):
        script = str(REPOSITORY / words[1])
        sys.argv = [script, *words[2:]]
        return lambda: runpy.run_path(script, run_name='__main__') and None
    return None


def _parse(words: list[str]) -> None:
    if words[0] == 'srun':
        words = words[1:]
    if words[0] == 'torchrun':
        from torch.distributed.run import get_args_parser

        launched = get_args_parser().parse_args(words[1:])
        assert launched.module, f'expected -m pdan_plugin: {shlex.join(words)}'
        words = ['python', '-m', launched.training_script, *launched.training_script_args]
    words = _without_redirection(words)
    for word in words[1:]:
        if re.fullmatch(r'(options|scripts|tests)/[\w/.]+', word):
            assert (REPOSITORY / word).exists(), f'{word} does not exist'
    program = _python_program(words)
    if program is not None:
        _parse_only(program)
    elif words[0] == 'bash':
        subprocess.run(['bash', '-n', str(REPOSITORY / words[1])], check=True)
    elif words[0] == 'pip':
        for extra in re.findall(r'[\[,](\w+)(?=[\],])', words[-1]):
            declared = (REPOSITORY / 'setup.py').read_text() + (REPOSITORY / 'pyproject.toml').read_text()
            assert re.search(rf'^\s*[\'"]?{extra}[\'"]?\s*[:=]\s*[\[A-Z]', declared, re.MULTILINE), f'no extra {extra}'
    elif words[:3] != ['python', '-m', 'pytest']:
        assert words[0] in _OTHER_PROGRAMS, f'what is {words[0]}?'


def _parse_only(program: Callable[[], int | None]) -> None:
    """Runs a program up to where it has read its arguments."""
    published = {name: getattr(argparse.ArgumentParser, name) for name in ('parse_args', 'parse_intermixed_args')}

    def ending(read: Callable[..., Any]) -> Callable[..., Any]:
        def parse(*arguments: Any, **further: Any) -> Any:
            read(*arguments, **further)
            raise _Parsed

        return parse

    for name, read in published.items():
        setattr(argparse.ArgumentParser, name, ending(read))
    try:
        program()
    except _Parsed:
        return
    except SystemExit as ended:
        if ended.code not in (0, None):  # 0: --help and --version
            raise
        return
    finally:
        for name, read in published.items():
            setattr(argparse.ArgumentParser, name, read)
    raise AssertionError('the program has not read its arguments')
