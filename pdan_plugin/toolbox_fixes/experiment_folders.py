"""Folders of an experiment: which are created, which are renamed, and the state from which a run resumes."""

from __future__ import annotations

import importlib
import os
from types import SimpleNamespace
from typing import Any

from basicsr.utils import misc

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.processes.process_group import from_rank_zero, restarts
from pdan_plugin.toolbox_fixes.joining_ranks import pretended_second_rank
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped
from pdan_plugin.training.checkpoints import choose_state, read_state, set_aside_newer_states
from pdan_plugin.training.history import run_history

_FOLDER_KEYS = ('models', 'training_states', 'log', 'visualization')


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The training state to resume from, on the CPU, with the networks' paths set in `opt`; None for a new run.

    With `auto_resume` it is the newest complete state of the experiment's folder: the state loads and its networks
    exist. Newer incomplete states are skipped with a warning. If there is no complete state, or without `auto_resume`,
    it is `path: resume_state`. Rank 0 chooses for all ranks. A process that torchrun has restarted acts as with
    `auto_resume`. The run's history goes back to the state. Without `auto_resume`, later states in the folder are
    renamed to `ITERATION.state.set_aside`; otherwise a restart would resume from them.

    Raises:
        RequestError: `path: resume_state` does not exist, does not load, or its networks are missing;
            `logger: keep_checkpoints` is not 1 or more; a folder cannot be written; the state's iteration is after
            `total_iter`.
    """
    keep = (opt.get('logger') or {}).get('keep_checkpoints')
    if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 1):
        raise RequestError(f'logger: keep_checkpoints: {keep!r}: expected a whole number, 1 or more')
    if restarts():
        opt['auto_resume'] = True
    path = from_rank_zero(lambda: choose_state(opt))
    if path is None:
        return None
    opt['path']['resume_state'] = path
    state = read_state(path)
    total = int((opt.get('train') or {}).get('total_iter', state['iter']))
    if state['iter'] > total:
        raise RequestError(
            f'train: total_iter: {total} is less than the iteration of the state to resume from, {state["iter"]} '
            f'({path}); raise total_iter, or set path: resume_state, without --auto_resume, to a state of '
            f'iteration {total} or before'
        )
    misc.check_resume(opt, state['iter'])
    _use_keys_of_checkpoints(opt)
    opt['resume_iter'] = state['iter']
    from_rank_zero(lambda: _go_back(opt, state['iter'], path))
    return state


def _go_back(opt: dict[str, Any], iteration: int, state: str) -> None:
    for key in _FOLDER_KEYS:  # a state from another folder may be resumed into a new folder
        _make_folder(opt['path'][key])
    with refusing_unwritable(opt['path']['experiments_root']):
        run_history(opt).begin(iteration)
        if not opt['auto_resume']:
            set_aside_newer_states(opt['path']['training_states'], iteration, state)


def _use_keys_of_checkpoints(opt: dict[str, Any]) -> None:
    """Sets `param_key_...` to `params`, the key of a checkpoint's networks; the options' keys are for pretrained
    weights."""
    ignored = opt['path'].get('ignore_resume_networks') or []
    for key in opt:
        name = f'param_key_{key.removeprefix("network_")}'
        if key.startswith('network_') and key not in ignored and name in opt['path']:
            opt['path'][name] = 'params'


def _make_folder(path: str) -> None:
    with refusing_unwritable(path):
        os.makedirs(path, exist_ok=True)


@fix(
    where='train.py:71,85-86',
    upstream='#107 (CPU runs)',
    symptom='a resume without CUDA crashes; --auto_resume from another folder archives the run and starts again',
)
def resume_from_the_newest_whole_state() -> None:
    """Replaces `load_resume_state`: looks in the run's folder, reads onto the CPU and skips incomplete states.

    Not probed: a probe would need a folder with states.
    """
    replace(importlib.import_module('basicsr.train'), 'load_resume_state', load_resume_state)


@fix(
    where='utils/misc.py:40-51',
    upstream='none',
    symptom='an unknown key under path: becomes a folder; other ranks do not wait until rank 0 has renamed the old one',
    behaves=lambda: _makes_known_folders_and_waits(),
)
def known_folders_only() -> None:
    """Rank 0 creates only the folders that `parse_options` names, and every rank waits until they exist."""

    def make_exp_dirs(opt: dict[str, Any]) -> None:
        def make() -> None:
            root = opt['path']['experiments_root' if opt['is_train'] else 'results_root']
            with refusing_unwritable(root):
                misc.mkdir_and_rename(root)
            for key in _FOLDER_KEYS:
                if key in opt['path']:
                    _make_folder(opt['path'][key])

        from_rank_zero(make)

    replace(misc, 'make_exp_dirs', make_exp_dirs)


@probe
def _makes_known_folders_and_waits() -> bool:
    """Requests the experiment's folder and one with an unknown key. Creates no folder."""
    made: list[str] = []
    opt = {'is_train': True, 'path': {'experiments_root': 'probe', 'unknown': 'unknown'}}

    def make(path: str, *args: Any, **kwargs: Any) -> None:
        made.append(path)

    with swapped(misc, os=SimpleNamespace(makedirs=make), mkdir_and_rename=make):
        misc.make_exp_dirs(opt)
        with pretended_second_rank() as waits:
            misc.make_exp_dirs(opt)
    return made == ['probe'] and bool(waits)
