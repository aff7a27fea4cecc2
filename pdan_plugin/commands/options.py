"""`basicsr options`: prints the JSON Schema of option files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--schema``."""
    parser.add_argument(
        '--schema',
        action='store_true',
        required=True,
        help='print the JSON Schema of option files, with the names and keys of all installed plugins',
    )


def run(_arguments: argparse.Namespace) -> int:
    """Prints the schema and returns the exit status.

    Raises:
        RequestError: A plugin does not load.
    """
    from pdan_plugin.option_schema.json_schema import schema_text
    from pdan_plugin.plugins import load_plugins

    load_plugins(None)
    print(schema_text(), end='', flush=True)
    return 0
