"""All changes to BasicSR's behaviour: one module per subject, one function per defect.

`apply()` makes all needed fixes, once per process. `known_toolboxes.py` lists the fixes that a known toolbox needs. For
any other toolbox, the probe of each fix decides (`patching.Fix.behaves`). `FIXES` lists all fixes. `stock_toolbox()`
restores the published behaviour within a block.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from pdan_plugin.toolbox_fixes.imports import other_basicsr_commands, require_real_toolbox
from pdan_plugin.toolbox_fixes.known_toolboxes import known_needs
from pdan_plugin.toolbox_fixes.patching import FIXES, Fix, stock_toolbox

__all__ = ['FIXES', 'Fix', 'applied', 'apply', 'other_basicsr_commands', 'require_real_toolbox', 'stock_toolbox']

# These modules import the toolbox, so the fixes of `imports` must be made first.
_SUBJECTS = (
    'run_log',
    'registries',
    'joining_ranks',
    'options',
    'experiment_folders',
    'checkpoints',
    'network_wrapping',
    'schedulers',
    'image_io',
    'undefined_results',
    'lmdb_backend',
    'image_lists',
    'degradations',
    'data_loading',
    'sample_seeds',
    'prefetching',
    'structural_similarity',
    'naturalness',
    'compiled_extensions',
    'stock_models',
    'small_pictures',
    'moved_names',
    'spawned_workers',
    'training_log',
    'training_loop',
)
_applied: dict[str, bool] = {}


def apply(*, by_probes: bool = False) -> None:
    """Makes every fix the installed toolbox needs; a second call does nothing.

    Args:
        by_probes: Run the probes even for a known toolbox. The tests of the table in `known_toolboxes` do this.

    Raises:
        RequestError: `import basicsr` would not import the installed toolbox.
    """
    if _applied:
        return
    folder = require_real_toolbox()
    known = {} if by_probes else known_needs(folder)
    _apply_new(known)
    importlib.import_module('basicsr')
    for subject in _SUBJECTS:
        importlib.import_module(f'pdan_plugin.toolbox_fixes.{subject}')
    _apply_new(known)


def applied() -> dict[str, bool]:
    """For each fix by name: True if it was made, False if the toolbox did not need it."""
    return dict(_applied)


def _apply_new(known: Mapping[str, bool]) -> None:
    for each in FIXES:
        if each.name not in _applied:
            _applied[each.name] = each.apply(known.get(each.name))
