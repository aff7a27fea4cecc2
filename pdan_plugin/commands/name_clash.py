"""Finds other scripts named ``basicsr``, of another package or another environment."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.processes.command_start import started_as_module, started_as_script
from pdan_plugin.toolbox_fixes import other_basicsr_commands


def refuse_ambiguous_command() -> None:
    """Checks for a second package that installs a script ``basicsr``: the later installation overwrites the first.

    Raises:
        RequestError: There is one, and this process is the script, so it may be either package's.
    """
    if os.environ.get('RANK', '0') != '0':
        return
    others = other_basicsr_commands()
    advice = '`python -m pdan_plugin` always starts this package'
    if others and started_as_script():
        raise RequestError(
            f'{", ".join(others)} also installs a command basicsr; `basicsr` starts the one that was installed last. '
            f'{advice}; or uninstall the other'
        )
    if others:
        print(f'basicsr: warning: {", ".join(others)} also installs a command basicsr; {advice}', file=sys.stderr)
    found = shutil.which('basicsr')
    if started_as_module() and found and not _is_of_this_environment(Path(found)):
        print(
            f'basicsr: warning: the command basicsr on PATH is {found}, in another environment than this Python '
            f'({sys.executable}); {advice}',
            file=sys.stderr,
        )


def _is_of_this_environment(script: Path) -> bool:
    folders = {Path(sysconfig.get_path('scripts')), Path(sys.executable).parent}
    return script.resolve().parent in {folder.resolve() for folder in folders}
