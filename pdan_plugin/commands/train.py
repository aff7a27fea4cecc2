"""`basicsr train`: the toolbox's trainer on checked options."""

from __future__ import annotations

import argparse

from pdan_plugin.commands.option_arguments import add_option_file, add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The option file, and how the run is started."""
    add_option_file(parser)
    add_run_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs it and returns the exit status.

    Raises:
        RequestError: The run cannot start as it was asked for; nothing has been written.
    """
    from pdan_plugin.commands.pipeline import run_pipeline

    return run_pipeline(arguments, is_train=True)
