"""`basicsr train`: its arguments. `pipeline.py` checks the options and runs the toolbox's trainer."""

from __future__ import annotations

import argparse

from pdan_plugin.commands.option_arguments import add_option_file, add_run_arguments, check_option_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the option file and the arguments for starting a run."""
    add_option_file(parser)
    add_run_arguments(parser)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that the option file can be opened.

    Raises:
        RequestError: It cannot.
    """
    check_option_file(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Trains and returns the exit status.

    Raises:
        RequestError: The run cannot start; nothing has been written.
    """
    from pdan_plugin.commands.pipeline import run_pipeline

    return run_pipeline(arguments, is_train=True)
