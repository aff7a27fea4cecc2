"""The parser of a subcommand, which imports the subcommand's module only when it parses.

`main.py` lists the subcommands for `basicsr --help`; each module describes its own arguments.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from pdan_plugin.commands.suggesting_parser import SuggestingParser


class SubcommandParser(SuggestingParser):
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
        parsed, unknown = (
            self._parse_intermixed(args, namespace) if self.intermixes else super().parse_known_args(args, namespace)
        )
        if unknown:  # the parser above would name neither this subcommand nor its options
            advice = '' if any(word.startswith('-') for word in unknown) else self.advice_on_more
            self.error(f'unrecognized arguments: {" ".join(unknown)}{advice}')
        return parsed, unknown

    def _parse_intermixed(self, args: Any, namespace: Any) -> Any:
        self._intermixing = True  # the method below calls `parse_known_args`
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False
