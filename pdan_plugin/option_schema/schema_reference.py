"""The line of an option file that names its JSON Schema. Uses the standard library only."""

from __future__ import annotations

import re
from pathlib import Path

# written by `basicsr options --schema`, in an environment without other plugins
SHIPPED = Path(__file__).with_name('options.schema.json')
_REFERENCE = re.compile(r'^# yaml-language-server: \$schema=.*\n', re.MULTILINE)


def with_reference(text: str, schema: str | Path) -> str:
    """The text of an option file whose first line names its schema, in the form that YAML language servers read.

    Args:
        text: The option file; another such line is replaced.
        schema: A URL, an absolute path, or a path relative to the folder of the option file.
    """
    target = Path(schema).as_uri() if Path(schema).is_absolute() else str(schema)
    return f'# yaml-language-server: $schema={target}\n{without_reference(text)}'


def without_reference(text: str) -> str:
    """The text of an option file without the line that names its schema."""
    return _REFERENCE.sub('', text, count=1)
