"""Docstrings use some of Sphinx's marks, which Markdown shows as they are: this rewrites them for the API pages."""

from __future__ import annotations

import re
import textwrap

_ROLE = re.compile(r':(?:class|func|meth|mod|attr|data):`~?([^`]+)`')
_FORMULA = re.compile(r'^( *)\.\. math::\n((?:\1 +.*\n?|\n)+)', re.MULTILINE)
_SESSION = re.compile(r'^( *)(>>> .*(?:\n\1(?!```).+)*)', re.MULTILINE)
_CODE = re.compile(r'(^ *```.*?^ *```$|`[^`\n]*`)', re.MULTILINE | re.DOTALL)


def as_markdown(docstring: str) -> str:
    """Roles as code, with the last part of the name; formulas and sessions as blocks; stars as they are written."""
    text = _FORMULA.sub(lambda found: _block(found[1], 'latex', found[2]) + '\n', docstring)
    text = _SESSION.sub(lambda found: _block(found[1], 'pycon', found[1] + found[2]), text)
    text = _ROLE.sub(lambda found: f'`{found[1].rpartition(".")[2]}`', text)
    parts = _CODE.split(text)  # code and what is between, in turn
    return ''.join(part if number % 2 else part.replace('*', '\\*') for number, part in enumerate(parts))


def _block(indent: str, language: str, text: str) -> str:
    lines = [f'```{language}', *textwrap.dedent(text).strip().splitlines(), '```']
    return '\n'.join(f'{indent}{line}' for line in lines) + '\n'
