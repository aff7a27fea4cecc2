"""The ``basicsr`` command: runs a subcommand and converts exceptions to an exit status.

0: done. 1: failed while running. 2: the request was wrong, and the message shows what to change. 130, 143: stopped by
Ctrl-C or SIGTERM; a training run has saved its state.

Each subcommand is a module of this package with ``add_arguments(parser)`` and ``run(arguments) -> exit status``. It is
imported when it is called. The toolbox is prepared before ``run``, and ``run`` imports the slow modules (torch, the
toolbox), so help and errors in the arguments appear at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pdan_plugin import __version__, prepare_toolbox
from pdan_plugin.commands.name_clash import refuse_ambiguous_command
from pdan_plugin.commands.script_end import FAILED, INTERRUPTED, WRONG_REQUEST
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import (
    compute_on_the_cpu_what_a_gpu_lacks,
    print_any_name,
    print_refusal,
)

# subcommand (also the name of its module): its purpose
COMMANDS = {
    'train': 'train a network with an option file',
    'test': 'test a trained network with an option file',
    'check': 'check options and data, print sizes, train nothing',
    'restore': 'restore a picture, a video, or a folder of them',
    'plugins': 'list everything that is registered, and the fixes of the toolbox',
}

_PIPE_CLOSED = 141  # as of a program that SIGPIPE ends


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error in the arguments exits with status 2."""
    print_any_name()
    compute_on_the_cpu_what_a_gpu_lacks()
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser().parse_args(words)
    arguments.words = words
    try:
        prepare_toolbox()
        refuse_ambiguous_command()
        return arguments.run(arguments)
    except RequestError as error:
        print_refusal(RequestError(_without_worker_traceback(str(error))))
        return WRONG_REQUEST
    except WorkError as error:
        print(f'basicsr {arguments.command}: {error}', file=sys.stderr, flush=True)
        return FAILED
    except KeyboardInterrupt:
        print(f'basicsr {arguments.command}: interrupted', file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_left():
            return _PIPE_CLOSED
        traceback.print_exc()
        print(
            f'basicsr {arguments.command}: failed while running: {type(error).__name__}: {error}',
            file=sys.stderr,
            flush=True,
        )
        return FAILED


def _reader_has_left() -> bool:
    """Whether the reader of the output, such as `| head`, has ended. What is still buffered then goes nowhere."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


class _Subcommand(argparse.ArgumentParser):
    """The parser of a subcommand. It imports the subcommand's module only when it parses."""

    def __init__(self, *args: Any, module: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._name = module
        self._module: ModuleType | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._module is None:
            self._module = importlib.import_module(self._name)
            self._module.add_arguments(self)
            self.set_defaults(run=self._module.run)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr', description='BasicSR with its plugins: train, test and use networks that restore pictures.'
    )
    parser.add_argument('--version', action='version', version=f'pdan-plugin {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND', parser_class=_Subcommand)
    for name, purpose in COMMANDS.items():
        description = f'{purpose[0].upper()}{purpose[1:]}.'
        module = f'pdan_plugin.commands.{name}'
        commands.add_parser(name, module=module, help=purpose, description=description, allow_abbrev=False)
    return parser


def _without_worker_traceback(text: str) -> str:
    """The message without the worker's traceback that torch's data loader adds."""
    return text.rpartition(f'{RequestError.__name__}: ')[2].strip() if text.startswith('Caught RequestError') else text
