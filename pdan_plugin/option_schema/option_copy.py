"""A copy of an option file that needs no other file, and a line about it."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

from pdan_plugin.option_schema.option_file import load_option_file
from pdan_plugin.option_schema.schema_reference import SHIPPED, with_reference


def option_copy(file: Path) -> str:
    """The text of an option file. If it extends others, its opening comment and the merged options.

    The first line names the schema of this installation by its whole path, so that an editor finds it from any folder.

    Raises:
        RequestError: See `load_option_file`.
    """
    read = load_option_file(file)
    text = read.text
    if len(read.chain) > 1:
        merged = ', '.join(each.path.name for each in reversed(read.chain))
        text = '\n'.join([*_opening_comment(read.chain[0].text), f'# Merged from {merged}.', '', read.text])
    return with_reference(text, SHIPPED)


def summary(file: Path) -> str:
    """The first sentence of the file's opening comment, without hints at other files and without a line for editors."""
    lines = [line.lstrip('# ') for line in _opening_comment(file.read_text(encoding='utf-8'))]
    text = ' '.join(takewhile(bool, (line for line in lines if not line.startswith('yaml-language-server:'))))
    return re.sub(r' \((options/|python )[^)]*\)', '', text.partition('. ')[0]).rstrip('.')


def _opening_comment(text: str) -> list[str]:
    """The comment lines before the first option."""
    return list(takewhile(lambda line: line.startswith('#'), text.splitlines()))
