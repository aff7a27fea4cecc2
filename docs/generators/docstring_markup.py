"""Docstrings use some of Sphinx's marks, which Markdown shows as they are: this rewrites them for the API pages."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from griffe import Extension

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data):`~?([^`]+)`')
_FORMULA = re.compile(r'^( *)\.\. math::\n((?:\1 +.*\n?|\n)+)', re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Roles as code, with the last part of the name; formulas as blocks of text."""
    text = _FORMULA.sub(lambda found: _block(found[1], found[2]), docstring)
    return _ROLE.sub(lambda found: f'`{found[1].rpartition(".")[2]}`', text)


def _block(indent: str, formula: str) -> str:
    lines = ['```latex', *textwrap.dedent(formula).strip().splitlines(), '```']
    return '\n'.join(f'{indent}{line}' for line in lines) + '\n\n'


class DocstringMarkup(Extension):
    """Rewrites every docstring that griffe reads."""

    def on_object(self, *, obj: Any, **_further: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
