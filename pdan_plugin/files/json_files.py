"""Standard JSON: floats that JSON lacks are written as the strings "NaN", "Infinity" and "-Infinity".

``float`` converts such a string back to its number; :func:`json_numbers` does so for a whole value.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from pdan_plugin.files.whole_files import write_whole

_SURROGATE = re.compile('[\ud800-\udfff]')


def json_safe(value: Any) -> Any:
    """A copy of a value of mappings, sequences and plain values, with strings for floats that are not finite."""
    if isinstance(value, Mapping):
        return {key: json_safe(one) for key, one in cast('Mapping[Any, Any]', value).items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(one) for one in cast('Sequence[Any]', value)]
    if isinstance(value, float) and not math.isfinite(value):
        return 'NaN' if math.isnan(value) else 'Infinity' if value > 0 else '-Infinity'
    return value


def json_numbers(value: Any) -> Any:
    """The inverse of :func:`json_safe`: converts the strings back to floats."""
    if isinstance(value, Mapping):
        return {key: json_numbers(one) for key, one in cast('Mapping[Any, Any]', value).items()}
    if isinstance(value, list):
        return [json_numbers(one) for one in cast('Sequence[Any]', value)]
    return float(value) if value in ('NaN', 'Infinity', '-Infinity') else value


def json_text(value: Any, *, indent: int | None = 2, default: Callable[[Any], Any] | None = None) -> str:
    """The value as JSON with a line end. Non-ASCII letters are not escaped; non-UTF-8 bytes of file names are.

    Args:
        value: Mappings, sequences and plain values.
        indent: See :func:`json.dumps`; None: all in one line.
        default: Converts other values to plain ones.
    """
    text = json.dumps(json_safe(value), indent=indent, allow_nan=False, ensure_ascii=False, default=default)
    return _SURROGATE.sub(lambda found: f'\\u{ord(found[0]):04x}', text) + '\n'


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2, durable: bool = False) -> None:
    """Writes a JSON file whole, or leaves the old file unchanged.

    Args and raises: See :func:`~pdan_plugin.files.whole_files.opened_whole`.
    """
    write_whole(path, json_text(value, indent=indent), durable=durable)
