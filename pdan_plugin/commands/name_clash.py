"""Other scripts of the name ``basicsr``: of another package, or of another environment."""

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
    """Looks for a second script ``basicsr``: of two packages that install one, the later has overwritten the other.

    Raises:
        RequestError: This process is that script.
    """
    if os.environ.get('RANK', '0') != '0':
        return
    others = other_basicsr_commands()
    advice = '`python -m pdan_plugin` is always this one'
    if others and started_as_script():
        raise RequestError(
            f'{", ".join(others)} also installs a command basicsr, so which of them `basicsr` starts '
            f'depends on what was installed last; {advice}, or uninstall the other'
        )
    if others:
        print(f'basicsr: warning: {", ".join(others)} also installs a command basicsr; {advice}', file=sys.stderr)
    found = shutil.which('basicsr')
    if started_as_module() and found and not _is_of_this_environment(Path(found)):
        print(
            f'basicsr: warning: the command basicsr on PATH is {found}, of another environment than this Python '
            f'({sys.executable}); {advice}',
            file=sys.stderr,
        )


def _is_of_this_environment(script: Path) -> bool:
    folders = {Path(sysconfig.get_path('scripts')), Path(sys.executable).parent}
    return script.resolve().parent in {folder.resolve() for folder in folders}
