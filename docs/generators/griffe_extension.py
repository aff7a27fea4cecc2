"""Hands every docstring that the API pages show to `docstring_markup`."""

from __future__ import annotations

from typing import Any

from griffe import Extension

from docstring_markup import as_markdown


class DocstringMarkup(Extension):
    """Called by griffe, which reads the source code for mkdocstrings."""

    def on_object(self, *, obj: Any, **_further: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
