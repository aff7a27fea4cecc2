"""The checkpoints of a run: which one a run resumes from, and which are kept."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from os import path as osp
from typing import Any

import numpy as np
import torch
from basicsr.utils import get_root_logger

from pdan_plugin.errors import RequestError
from pdan_plugin.files.torch_files import loading_reason, refuse_code

_STATE_KEYS = ('epoch', 'iter', 'optimizers', 'schedulers')
# metrics put numpy scalars into a state; they are plain numbers, so reading them is safe
_NUMPY_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMPY_SCALARS = [
    _NUMPY_SCALAR,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32', 'bool')),
]


def choose_state(opt: dict[str, Any]) -> str | None:
    """The path of the training state that a run resumes from; None for a new run. See `load_resume_state`.

    Raises:
        RequestError: `path: resume_state` does not exist, does not load, or its networks are missing.
    """
    given = opt['path'].get('resume_state')
    if opt['auto_resume']:
        found = _newest_whole_state(opt)
        if found is not None:
            return found
        if not given and osp.isdir(opt['path']['experiments_root']):
            get_root_logger().warning(
                f'--auto_resume: no complete training state in {opt["path"]["training_states"]}; training starts from '
                'the beginning. The existing folder is renamed: _archived_ and the time are added to its name.'
            )
    if not given:
        return None
    if not osp.isfile(given):
        raise RequestError(
            f'path: resume_state: {given}: no such file; give an existing .state file, or remove the option'
        )
    state = read_state(given)
    missing = _missing_networks(opt, state['iter'])
    if missing:
        raise RequestError(
            f'path: resume_state: {given}: its networks are missing: {"; ".join(missing)}. Put them there, or list '
            'those that should not be loaded from it under path: ignore_resume_networks'
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
        get_root_logger().warning(f'--auto_resume skips {path}: {"; ".join(problems)}')
    return None


def read_state(path: str) -> dict[str, Any]:
    """Reads a training state onto the CPU with torch's `weights_only` rules; numpy scalars are also allowed.

    Raises:
        RequestError: The file is truncated, holds other objects, or is not a training state.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        refuse_code(path, error, 'Resume from a state that you saved yourself, or start a new run without it.')
        raise RequestError(f'{path}: not a complete training state ({loading_reason(error)})') from error
    missing = [key for key in _STATE_KEYS if not isinstance(state, dict) or key not in state]
    if missing:
        raise RequestError(f'{path}: not a training state: it has no {", ".join(missing)}')
    return state


def _missing_networks(opt: dict[str, Any], iteration: int) -> list[str]:
    """Reasons why the networks of an iteration cannot be loaded, one line each.

    A network without a file of any iteration is one that the model does not save, so it does not count as missing. A
    network that no option names, such as DRN's dual networks, counts as missing if the folder holds it for all other
    iterations.
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
            problems.append(f'{path} is truncated')
    return problems


def _begins_as_zip(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'


def set_aside_newer_states(folder: str, iteration: int, resumed: str) -> None:
    """Renames the states after an iteration to which a run goes back."""
    for name in sorted(os.listdir(folder)):
        stem, suffix = osp.splitext(name)
        path = osp.join(folder, name)
        if suffix != '.state' or not stem.isdigit() or int(stem) < iteration or osp.samefile(path, resumed):
            continue
        os.replace(path, f'{path}.set_aside')
        get_root_logger().warning(
            f'path: resume_state goes back to iteration {iteration}: {path} is now {name}.set_aside'
        )


def best_iterations(model: Any) -> set[int]:
    """The iterations at which a validation metric was best so far."""
    best = getattr(model, 'best_metric_results', None) or {}
    return {int(record['iter']) for metrics in best.values() for record in metrics.values()}


def remove_older_checkpoints(paths: dict[str, str], iteration: int, keep: int, best: set[int]) -> None:
    """Removes all checkpoints but the newest `keep`, counted from the one just saved.

    A checkpoint is a training state with its networks, `net_LABEL_ITERATION.pth`. The state is removed first, so an
    existing state always has its networks. `net_LABEL_latest.pth` is kept. A file that cannot be removed is logged as a
    warning.

    Args:
        paths: The folders `models` and `training_states`.
        iteration: The checkpoint just saved.
        keep: Number of checkpoints to keep, 1 or more.
        best: Iterations whose checkpoints are always kept.
    """
    states = _by_iteration(paths['training_states'], r'(\d+)\.state')
    networks = _by_iteration(paths['models'], r'net_\w+_(\d+)\.pth')
    older = sorted((each for each in states if each < iteration), reverse=True)
    kept = {*older[: max(keep, 1) - 1], *best}
    for each in sorted(each for each in {*states, *networks} if each < iteration and each not in kept):
        for path in [*states.get(each, []), *networks.get(each, [])]:
            try:
                os.remove(path)
            except OSError as error:
                get_root_logger().warning(f'logger: keep_checkpoints: cannot remove {path}: {error}')
                break


def _by_iteration(folder: str, pattern: str) -> dict[int, list[str]]:
    files: dict[int, list[str]] = {}
    for name in sorted(os.listdir(folder)) if osp.isdir(folder) else []:
        match = re.fullmatch(pattern, name)
        if match:
            files.setdefault(int(match[1]), []).append(osp.join(folder, name))
    return files
