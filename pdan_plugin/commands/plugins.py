"""`basicsr plugins`: lists all registered names with their distributions, and the fixes of the toolbox."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no arguments."""


def run(_arguments: argparse.Namespace) -> int:
    """Prints the tables and returns the exit status.

    Raises:
        RequestError: A plugin does not load.
    """
    from pdan_plugin.commands import plugin_table
    from pdan_plugin.plugins import load_plugins

    print(plugin_table.describe(load_plugins(None)), flush=True)
    return 0
