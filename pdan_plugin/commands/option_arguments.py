"""Shared arguments of the subcommands with an option file. This module imports nothing slow."""

from __future__ import annotations

import argparse

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.shipped_options import find_option_file, unreadable
from pdan_plugin.processes.launchers import LAUNCHERS, speaks_for_its_machine


def add_option_file(parser: argparse.ArgumentParser) -> None:
    """Adds ``-opt`` and ``--force_yml``."""
    parser.add_argument(
        '-opt',
        dest='option_file',
        required=True,
        metavar='FILE',
        help='the option file (YAML), or the name of one that comes with this package (`basicsr options` lists them)',
    )
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=[],
        metavar='KEY:SUB=VALUE',
        help="options that replace the file's, such as train:total_iter=1000",
    )
    parser.add_argument(
        '--strict', action='store_true', help='reject every key that nothing reads, also where it is only a warning'
    )


def check_option_file(arguments: argparse.Namespace) -> None:
    """Checks that the option file can be opened, before anything slow is imported.

    Raises:
        RequestError: It cannot. Only one process of a machine raises it; the others fail later and print nothing.
    """
    if not speaks_for_its_machine():
        return
    try:
        with open(find_option_file(arguments.option_file), 'rb'):
            pass
    except OSError as error:
        raise RequestError(f'{arguments.option_file}: {unreadable(arguments.option_file, error)}') from error


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that control how a run is started."""
    parser.add_argument('--launcher', choices=LAUNCHERS, help='what started the processes (default: detected)')
    parser.add_argument('--auto_resume', action='store_true', help="resume from the run's last saved state")
    parser.add_argument('--debug', action='store_true', help='a short run that logs and validates often')
    parser.add_argument('--local_rank', '--local-rank', type=int, help='set by launchers')
    parser.add_argument('--nproc', type=int, metavar='N', help='start N workers on this machine')


def toolbox_flags(arguments: argparse.Namespace) -> list[str]:
    """The arguments that define the run, without those for launching it."""
    flags = ['-opt', arguments.option_file]
    flags += ['--auto_resume'] if arguments.auto_resume else []
    flags += ['--debug'] if arguments.debug else []
    flags += ['--strict'] if arguments.strict else []
    return [*flags, '--force_yml', *arguments.force_yml] if arguments.force_yml else flags
