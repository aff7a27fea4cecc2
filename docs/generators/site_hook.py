"""Puts what is generated into the pages, while mkdocs builds the site."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docstring_markup  # noqa: F401  (mkdocs finds this folder now alone; griffe_extension.py needs it later)
import rooms_drawing
from fixes_table import fixes_table
from options_reference import reference
from room_imports import read_rooms

PACKAGE = Path(__file__).resolve().parents[2] / 'pdan_plugin'

GENERATED: dict[str, Callable[[], str]] = {
    'options': reference,
    'toolbox fixes': fixes_table,
    'drawing': lambda: rooms_drawing.draw(read_rooms(PACKAGE)),
    'rooms': lambda: rooms_drawing.table(read_rooms(PACKAGE)),
}
_MARK = re.compile(r'^<!-- generated: ([\w ]+) -->$', re.MULTILINE)


def with_generated(markdown: str) -> str:
    """A page's Markdown with each mark ``<!-- generated: NAME -->`` replaced.

    Raises:
        KeyError: Nothing of that name is generated.
    """
    return _MARK.sub(lambda mark: GENERATED[mark[1]](), markdown)


def on_page_markdown(markdown: str, **_further: Any) -> str:
    """Called by mkdocs for each page."""
    return with_generated(markdown)
