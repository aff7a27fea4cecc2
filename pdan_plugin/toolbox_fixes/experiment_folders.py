"""Folders of an experiment: which are made, which are set aside, and the state a run goes on from."""

from __future__ import annotations

import importlib
import os
import pickle
import re
import zipfile
from os import path as osp
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger, misc

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.processes.process_group import from_rank_zero, restarts
from pdan_plugin.toolbox_fixes.checkpoints import loading_reason, refuse_code
from pdan_plugin.toolbox_fixes.joining_ranks import pretended_second_rank
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped
from pdan_plugin.training.history import run_history

_FOLDER_KEYS = ('models', 'training_states', 'log', 'visualization')
_STATE_KEYS = ('epoch', 'iter', 'optimizers', 'schedulers')
# numpy scalars, which metrics leave in a state, are plain numbers: safe to read back
_NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS = [
    _NUMPY_SCALAR,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'bool')),
]


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The training state to go on from, on the CPU, with the networks' paths set in `opt`; None to begin anew.

    With `auto_resume` it is the newest whole state of the experiment's folder: one that loads, and whose networks are
    there. Newer ones that are not whole are passed over with a warning. Without one there, and without `auto_resume`,
    it is `path: resume_state`. Rank 0 chooses for all. A process that torchrun has restarted goes on as with
    `auto_resume`. The run's history goes back to the state; the folder's own states from there on, which a restart
    would take for the newest of this run, are renamed to `ITERATION.state.set_aside`.

    Raises:
        RequestError: `path: resume_state` is not there, does not load, or its networks are missing;
            `logger: keep_checkpoints` would keep none; a folder cannot be written; the state is of an iteration past
            `total_iter`.
    """
    keep = (opt.get('logger') or {}).get('keep_checkpoints')
    if keep is not None and (not isinstance(keep, int) or isinstance(keep, bool) or keep < 1):
        raise RequestError(f'logger: keep_checkpoints: {keep!r}: expected a whole number, 1 or more')
    if restarts():
        opt['auto_resume'] = True
    path = from_rank_zero(lambda: _choose_state(opt))
    if path is None:
        return None
    opt['path']['resume_state'] = path
    state = read_state(path)
    total = int((opt.get('train') or {}).get('total_iter', state['iter']))
    if state['iter'] > total:
        raise RequestError(
            f'train: total_iter: {total} is behind the run, whose newest state is of iteration {state["iter"]} '
            f'({path}); raise total_iter, or go back by path: resume_state, without --auto_resume, to a state of '
            f'iteration {total} or before'
        )
    misc.check_resume(opt, state['iter'])
    _use_keys_of_checkpoints(opt)
    opt['resume_iter'] = state['iter']
    from_rank_zero(lambda: _go_back(opt, state['iter'], path))
    return state


def _go_back(opt: dict[str, Any], iteration: int, state: str) -> None:
    for key in _FOLDER_KEYS:  # a state from elsewhere may be resumed into a folder that is not there yet
        _make_folder(opt['path'][key])
    with refusing_unwritable(opt['path']['experiments_root']):
        run_history(opt).begin(iteration)
        if not opt['auto_resume']:
            _set_aside(opt['path']['training_states'], iteration, state)


def _use_keys_of_checkpoints(opt: dict[str, Any]) -> None:
    """`param_key_...` tells of the pretrained weights; a checkpoint has its networks under `params` in any case."""
    ignored = opt['path'].get('ignore_resume_networks') or []
    for key in opt:
        name = f'param_key_{key.removeprefix("network_")}'
        if key.startswith('network_') and key not in ignored and name in opt['path']:
            opt['path'][name] = 'params'


def _set_aside(folder: str, iteration: int, resumed: str) -> None:
    """Renames the states that a run going back to an iteration leaves behind."""
    for name in sorted(os.listdir(folder)):
        stem, suffix = osp.splitext(name)
        path = osp.join(folder, name)
        if suffix != '.state' or not stem.isdigit() or int(stem) < iteration or osp.samefile(path, resumed):
            continue
        os.replace(path, f'{path}.set_aside')
        get_root_logger().warning(
            f'path: resume_state goes back to iteration {iteration}: {path} is now {name}.set_aside'
        )


def _make_folder(path: str) -> None:
    with refusing_unwritable(path):
        os.makedirs(path, exist_ok=True)


def _choose_state(opt: dict[str, Any]) -> str | None:
    given = opt['path'].get('resume_state')
    if opt['auto_resume']:
        found = _newest_whole_state(opt)
        if found is not None:
            return found
        if not given and osp.isdir(opt['path']['experiments_root']):
            get_root_logger().warning(
                f'--auto_resume: no whole training state in {opt["path"]["training_states"]}; training begins anew, '
                'and the folder that is there is kept under a name ending in _archived_ and the time.'
            )
    if not given:
        return None
    if not osp.isfile(given):
        raise RequestError(f'path: resume_state: {given}: no such file; give an existing .state file, or take it out')
    state = read_state(given)
    missing = _missing_networks(opt, state['iter'])
    if missing:
        raise RequestError(
            f'path: resume_state: {given}: its networks are not there: {"; ".join(missing)}. Put them there, or list '
            'those that should start otherwise under path: ignore_resume_networks'
        )
    return given


def _newest_whole_state(opt: dict[str, Any]) -> str | None:
    folder = opt['path']['training_states']
    names = os.listdir(folder) if osp.isdir(folder) else []
    iterations = [int(stem) for stem, suffix in map(osp.splitext, names) if suffix == '.state' and stem.isdigit()]
    for iteration in sorted(iterations, reverse=True):
        path = osp.join(folder, f'{iteration}.state')
        problems = _missing_networks(opt, iteration)
        if not problems:
            try:
                read_state(path)
                return path
            except RequestError as error:
                problems = [str(error)]
        get_root_logger().warning(f'--auto_resume passes over {path}: {"; ".join(problems)}')
    return None


def read_state(path: str) -> dict[str, Any]:
    """Reads a training state onto the CPU, by torch's safe rules and numpy's scalars.

    Raises:
        RequestError: The file is cut short, holds other objects, or is no training state.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        refuse_code(path, error, 'Go on from a state of your own, or begin anew without it.')
        raise RequestError(f'{path}: not a whole training state ({loading_reason(error)})') from error
    missing = [key for key in _STATE_KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise RequestError(f'{path}: not a training state: it has no {", ".join(missing)}')
    return state


def _missing_networks(opt: dict[str, Any], iteration: int) -> list[str]:
    """What keeps the networks of an iteration from being loaded, one line each.

    A network of which the folder holds no iteration at all is one the model does not save, and is not missed. One that
    no option names, such as DRN's dual networks, is missed where the folder holds it for all other iterations.
    """
    folder = opt['path']['models']
    there = os.listdir(folder) if osp.isdir(folder) else []
    ignored = opt['path'].get('ignore_resume_networks') or []
    labels = [key.removeprefix('network_') for key in opt if key.startswith('network_') and key not in ignored]
    saved = [label for label in labels if any(re.fullmatch(rf'net_{label}_(\d+|latest)\.pth', name) for name in there)]
    problems = [f'{folder} has no net_*_{iteration}.pth'] if labels and not saved else []
    iterations: dict[str, set[int]] = {}
    for name in there:
        if found := re.fullmatch(r'net_(.+)_(\d+)\.pth', name):
            iterations.setdefault(found[1], set()).add(int(found[2]))
    others = set[int]().union(*(iterations.get(label, ()) for label in saved)) - {iteration}
    unnamed = [label for label in iterations if f'network_{label}' not in opt]
    saved += [label for label in unnamed if iteration in iterations[label] or (others and others <= iterations[label])]
    for label in saved:
        path = osp.join(folder, f'net_{label}_{iteration}.pth')
        if not osp.isfile(path):
            problems.append(f'{path} is missing')
        elif osp.getsize(path) == 0 or (_begins_as_zip(path) and not zipfile.is_zipfile(path)):
            problems.append(f'{path} is cut short')
    return problems


def _begins_as_zip(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'


@fix(
    where='train.py:71,85-86',
    upstream='#107 (CPU runs)',
    symptom='a resume without CUDA crashes; --auto_resume from another folder archives the run and begins again',
)
def resume_from_the_newest_whole_state() -> bool:
    """Replaces `load_resume_state`: looks where the run saves, reads onto the CPU, passes over what is not whole.

    Not probed: it would take a folder of states to choose from.
    """
    replace(importlib.import_module('basicsr.train'), 'load_resume_state', load_resume_state)
    return True


@fix(
    where='utils/misc.py:40-51',
    upstream='none',
    symptom='any unknown key under path: becomes a folder; other ranks may look before rank 0 has renamed the old one',
)
def known_folders_only() -> bool:
    """Only the folders `parse_options` names are made, by rank 0, and every rank waits until they are there."""
    if _makes_known_folders_and_waits():
        return False

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
    return True


@probe
def _makes_known_folders_and_waits() -> bool:
    """Makes nothing: the experiment's own folder is asked for, beside a key that is none of the toolbox's."""
    made: list[str] = []
    opt = {'is_train': True, 'path': {'experiments_root': 'probe', 'unknown': 'unknown'}}

    def make(path: str, *args: Any, **kwargs: Any) -> None:
        made.append(path)

    with swapped(misc, os=SimpleNamespace(makedirs=make), mkdir_and_rename=make):
        misc.make_exp_dirs(opt)
        with pretended_second_rank() as waits:
            misc.make_exp_dirs(opt)
    return made == ['probe'] and bool(waits)
