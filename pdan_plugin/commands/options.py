"""`basicsr options`: lists the option files that come with this package, or prints one that needs no other file."""

from __future__ import annotations

import argparse
import io
import sys

PREPARES_TOOLBOX = False

DESCRIPTION = """\
Lists the option files that come with this package, or prints one of them.

    basicsr options                          all names, with the first line of each
    basicsr options pdan_phase1 > my.yml     your own copy, to change and to run with -opt my.yml
    basicsr options --schema                 the JSON Schema of option files, for editors

A file that extends others is printed merged with them, so the copy needs no other file. `-opt NAME` runs a file of the
package as it is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the name and ``--schema``."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument('name', metavar='NAME', nargs='?', help='an option file of this package (default: list all)')
    what.add_argument(
        '--schema',
        action='store_true',
        help='print the JSON Schema of option files, with the names and keys of all installed plugins',
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks the name.

    Raises:
        RequestError: There is no option file of this name.
    """
    from pdan_plugin.option_schema.shipped_options import shipped_file

    if arguments.name is not None:
        shipped_file(arguments.name)


def run(arguments: argparse.Namespace) -> int:
    """Prints the list, the file or the schema, and returns the exit status.

    Raises:
        RequestError: A plugin does not load.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding='utf-8')  # option files are, also where the terminal's encoding is another
    if arguments.schema:
        print(_schema(), end='', flush=True)
        return 0
    from pdan_plugin.option_schema import shipped_options
    from pdan_plugin.option_schema.option_copy import option_copy, summary

    if arguments.name is not None:
        print(option_copy(shipped_options.shipped_file(arguments.name)), end='', flush=True)
        return 0
    files = shipped_options.shipped_options()
    width = max(map(len, files))
    for name, file in files.items():
        print(f'{name:<{width}}  {summary(file)}')
    print('\nYour own copy: basicsr options NAME > my.yml', flush=True)
    return 0


def _schema() -> str:
    from pdan_plugin.processes.command_start import need_toolbox

    need_toolbox()
    from pdan_plugin.option_schema.json_schema import schema_text
    from pdan_plugin.plugins import load_plugins

    load_plugins(None)
    return schema_text()
