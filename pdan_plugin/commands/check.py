"""`basicsr check`: checks whether a run would start, and prints its size."""

from __future__ import annotations

import argparse

from pdan_plugin.commands.option_arguments import add_option_file, check_option_file
from pdan_plugin.errors import RequestError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the option file and the number of workers."""
    add_option_file(parser)
    parser.add_argument('--nproc', type=int, default=1, metavar='N', help='workers the run will have (default: 1)')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that the option file can be opened, and the number of workers.

    Raises:
        RequestError: They cannot be used.
    """
    check_option_file(arguments)
    if arguments.nproc < 1:
        raise RequestError(f'--nproc {arguments.nproc}: expected 1 worker or more')


def run(arguments: argparse.Namespace) -> int:
    """Prints the summary of a run and returns the exit status. Writes nothing.

    Raises:
        RequestError: The run would not start. If only weights are missing, the summary is printed first.
    """
    from pdan_plugin.commands import run_summary
    from pdan_plugin.commands.checked_request import checked_request
    from pdan_plugin.commands.missing_weights import missing_weights

    request = checked_request(arguments)
    missing = missing_weights(request.options, request.path)
    summary = run_summary.summarize(
        request.options,
        request.path,
        world_size=arguments.nproc,
        overrides=request.file.overrides,
        without=tuple(missing),
    )
    print(summary, flush=True)
    if missing:  # perhaps of an earlier phase, so the rest can be checked before that is trained
        raise RequestError('everything else is in order, but ' + '\n'.join(missing.values()))
    return 0
