"""A parser of arguments whose errors suggest the known spelling of a mistyped command, option or choice."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from pdan_plugin.option_schema.spelling import nearest


class SuggestingParser(argparse.ArgumentParser):
    """A parser that names what was probably meant, whichever error a mistyped word leads to.

    A mistyped option is mentioned in other errors too: ``--outptu FILE`` also means that ``--output`` is missing. An
    option with one dash too few (``-overwrite``) is an error, and not the option ``-o`` with the value ``verwrite``.
    """

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(sys.argv[1:] if args is None else args)
        for word in self._own_words():
            name = word.partition('=')[0]
            if not self._knows(name) and self._lacks_a_dash(name):
                self.error(f'unrecognized arguments: {word}')
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        for name in dict.fromkeys(self._unknown_options()):
            guess = _guess(name, self._option_string_actions)
            named = name in message.replace('=', ' ').split()
            message += guess if named or not guess else f'; there is no option {name!r}{guess}'
        super().error(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        found = f'{str(value)!r}{_guess(str(value), known)}'
        raise argparse.ArgumentError(action, f'invalid choice: {found} (choose from {", ".join(map(repr, known))})')

    def _own_words(self) -> list[str]:
        """The words that are this parser's: not those behind ``--``, nor those of a subcommand."""
        own: list[str] = []
        for word in self._words:
            if word == '--' or (self._subparsers is not None and not word.startswith('-')):
                break
            own.append(word)
        return own

    def _unknown_options(self) -> list[str]:
        """The words that look like options and are none, without their values."""
        names = (word.partition('=')[0] for word in self._own_words() if word.startswith('-') and ' ' not in word)
        return [name for name in names if not self._knows(name) and not self._reads_as_known(name)]

    def _knows(self, name: str) -> bool:
        return name in self._option_string_actions

    def _lacks_a_dash(self, name: str) -> bool:
        return re.match(r'-[^-]', name) is not None and self._knows(f'-{name}')

    def _reads_as_known(self, name: str) -> bool:
        """Whether a word is a value, an abbreviation, or a short option with its value behind it."""
        if re.fullmatch(r'-|-\d+|-\d*\.\d+', name):
            return True
        if not name.startswith('--'):
            return self._knows(name[:2]) and not self._lacks_a_dash(name)
        return self.allow_abbrev and any(known.startswith(name) for known in self._option_string_actions)


def _guess(word: str, known: Collection[str]) -> str:
    """The known words that begin with a word, or else the one that is spelled like it; empty if there is none."""
    begun = [other for other in known if len(word.lstrip('-')) > 1 and other.lower().startswith(word.lower())]
    close = begun or list(filter(None, [nearest(word, known)]))
    return f'; did you mean {" or ".join(map(repr, close))}?' if close else ''
