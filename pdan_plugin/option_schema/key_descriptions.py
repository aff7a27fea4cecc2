"""What an option key means and which value it expects: for the options reference and for the JSON Schema."""

from __future__ import annotations

import inspect
import re
from typing import Any

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.validation import check_values


class _Nothing:
    """A value of no kind, to ask the schema what it expects."""


def expected_value(schema: type[sections.Options], key: str) -> str:
    """What the check expects of a key, in its own words: it is given a value of no kind, and says what it wants."""
    for problem in check_values(schema, {key: _Nothing()}, '', due=False):
        if problem.key.split('.')[0] == key and 'expected ' in problem.text:
            return problem.text.partition('expected ')[2]
    return 'any'


def documented_arguments(docstring: str) -> dict[str, str]:
    """The entries under ``Args:`` of a docstring in Google's form, by name, each on one line."""
    block = re.search(r'^Args:\n((?:[ ]+.*\n?|\n)*)', docstring, re.MULTILINE)
    entries = (
        re.findall(r'^    (\w+)(?: \([^)]*\))?: (.*(?:\n     +.*)*)', block.group(1), re.MULTILINE) if block else []
    )
    return {name: ' '.join(text.split()) for name, text in entries}


def first_sentence(target: Any) -> str:
    """The first paragraph of a docstring, on one line; empty if there is none."""
    docstring = inspect.getdoc(target) or ''
    return ' '.join(docstring.partition('\n\n')[0].split())
