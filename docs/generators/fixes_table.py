"""The table of the toolbox's fixes, as `basicsr plugins` lists them."""

from __future__ import annotations

import pdan_plugin  # noqa: F401  (fills the list)
from pdan_plugin.toolbox_fixes import FIXES


def fixes_table() -> str:
    """The fixes in the order in which they are applied, as a Markdown table."""
    lines = ['| fix | what a user saw | where | issue |', '|---|---|---|---|']
    for fix in FIXES:
        upstream = '–' if fix.upstream == 'none' else fix.upstream
        cells = (f'`{fix.name}`', fix.symptom, f'`{fix.where}`', upstream)
        lines.append(f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)} |')
    return '\n'.join(lines)
