"""The ``basicsr`` command: it finds the subcommand, runs it, and turns what is raised into an exit status.

0: done. 1: failed while running. 2: the request was wrong, and the message says what to change. 130, 143: stopped by
Ctrl-C or SIGTERM; a training run has saved its state.

Each subcommand is a module of this room with ``add_arguments(parser)`` and ``run(arguments) -> exit status``. It is
imported when it is called, and imports what is slow to import (torch, the toolbox) in ``run``, before which the toolbox
is prepared: help and mistakes in the arguments are answered at once.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pdan_plugin import __version__, prepare_toolbox
from pdan_plugin.commands.name_clash import refuse_ambiguous_command
from pdan_plugin.commands.script_end import FAILED, INTERRUPTED, WRONG_REQUEST
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import print_refusal

# subcommand, which is also its module's name: its purpose
COMMANDS = {
    'train': 'train a network as an option file says',
    'test': 'test a trained network as an option file says',
    'check': 'check options and data, print sizes, train nothing',
    'restore': 'restore a picture, a video, or a folder of them',
    'plugins': 'list what is registered, and what was mended in the toolbox',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. Mistakes in the arguments themselves end the process with 2."""
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
        traceback.print_exc()
        print(
            f'basicsr {arguments.command}: failed while running: {type(error).__name__}: {error}',
            file=sys.stderr,
            flush=True,
        )
        return FAILED


class _Subcommand(argparse.ArgumentParser):
    """The parser of a subcommand, whose module is imported when there are words to parse."""

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
    """The message alone, where torch's data loader has wrapped it in the worker's traceback."""
    return text.rpartition(f'{RequestError.__name__}: ')[2].strip() if text.startswith('Caught RequestError') else text
