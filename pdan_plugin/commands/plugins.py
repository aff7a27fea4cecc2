"""`basicsr plugins`: what is registered and who brought it, and what was mended in the toolbox."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(_arguments: argparse.Namespace) -> int:
    """Prints the tables and returns the exit status.

    Raises:
        RequestError: A plugin does not load.
    """
    from pdan_plugin.commands import plugin_table
    from pdan_plugin.plugins import load_plugins

    print(plugin_table.describe(load_plugins(None)), flush=True)
    return 0
