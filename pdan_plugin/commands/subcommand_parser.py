"""The parser of a subcommand, which imports the subcommand's module only when it parses.

`main.py` lists the subcommands for `basicsr --help`; each module describes its own arguments.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from pdan_plugin.option_schema.spelling import nearest


class SubcommandParser(argparse.ArgumentParser):
    """A parser whose arguments come from the module of its subcommand.

    Args:
        module: The module's dotted name. Its ``add_arguments(parser)`` is called before the first parsing, and the
            parsed result gets the module as ``subcommand``.

    Attributes:
        intermixes: Whether options may stand between the positional arguments, some of which may be left out
            (``SOURCE --option TARGET``). ``add_arguments`` sets it.
        advice_on_more: The end of the error about too many positional arguments. ``add_arguments`` may set it.
    """

    def __init__(self, *args: Any, module: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.intermixes = False
        self.advice_on_more = ''
        self._name = module
        self._module: ModuleType | None = None
        self._intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._module is None:
            self._module = importlib.import_module(self._name)
            self._module.add_arguments(self)
            self.set_defaults(subcommand=self._module)
        if self._intermixing:
            return super().parse_known_args(args, namespace)
        if not self.intermixes:
            found, unknown = super().parse_known_args(args, namespace)
        else:
            self._intermixing = True  # the method below calls this one
            try:
                found, unknown = self.parse_known_intermixed_args(args, namespace)
            finally:
                self._intermixing = False
        if unknown:  # told here, with this subcommand's usage, rather than with that of the whole command
            self.error(f'unrecognized arguments: {" ".join(unknown)}{self._advice(unknown)}')
        return found, unknown

    def _advice(self, unknown: Sequence[str]) -> str:
        options = [word for action in self._actions for word in action.option_strings]
        for word in unknown:
            close = nearest(word.partition('=')[0], options, 0.75) if word.startswith('--') else None
            if close is not None:
                return f"; did you mean '{close}'?"
        return '' if any(word.startswith('-') for word in unknown) else self.advice_on_more
