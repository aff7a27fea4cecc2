"""Checkpoints that are whole or not there."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from os import path as osp
from types import SimpleNamespace
from typing import Any

import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel
from basicsr.utils.dist_util import master_only
from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped

_UNFINISHED = '.saving'
# what torch says of an object that is no part of a state dict: its module and name
_NAMED_OBJECT = re.compile(r'(?:GLOBAL|global|class|function) ([A-Za-z_]\w*(?:\.\w+)+)')

SAVED_ANEW = (
    'Ask who made it to save it anew as what it is, tensors by name: torch.save(network.state_dict(), FILE), or as '
    'safetensors.'
)


def save_atomically(content: Any, path: str) -> None:
    """torch.save, after which the path holds either the whole new file or what it held before.

    The content is written to a hidden file in the same folder, flushed to the disk, and renamed. Such files that a
    killed process left in the folder are removed first; one process saves into a folder.

    Raises:
        OSError: The content could not be written; what was there before still is.
    """
    folder, name = osp.split(osp.abspath(path))
    unfinished = osp.join(folder, f'.{name}{_UNFINISHED}')
    try:
        os.makedirs(folder, exist_ok=True)
        for left_over in glob.glob(osp.join(glob.escape(folder), f'.*{_UNFINISHED}')):
            os.remove(left_over)
        with open(unfinished, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        _sync_folder(folder)
    except Exception as error:
        with contextlib.suppress(OSError):
            os.remove(unfinished)
        kept = 'the file of that name from before is untouched' if osp.exists(path) else 'no file of that name is left'
        raise OSError(
            f'cannot save {path}: {_reason(error)}; {kept}. Is the disk full, or the folder not writable?'
        ) from error


def _reason(error: BaseException) -> str:
    """What the system said: torch closes its archive over a failed write, and tells of that instead."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__context__
    return str(error)


def refuse_code(path: str, error: Exception, way_out: str) -> None:
    """A RequestError where torch's safe reader refused ``path`` for a Python object in it, such as posix.system."""
    named = _NAMED_OBJECT.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if named:
        raise RequestError(
            f'{path} carries code: it holds Python objects ({named[1]}), which loading could run, and is not loaded. '
            f'{way_out}'
        ) from error


def loading_reason(error: Exception) -> str:
    """The first line of what torch says, of its safe reader the line that says why."""
    text = str(error)
    _, found, reason = text.partition('WeightsUnpickler error: ')
    return (reason if found else text).strip().partition('\n')[0] or type(error).__name__


def _sync_folder(folder: str) -> None:
    """Makes a rename last through a power cut, where the system can open folders."""
    if not hasattr(os, 'O_DIRECTORY'):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def bare_state_dict(net: nn.Module) -> OrderedDict[str, torch.Tensor]:
    """The network's state on the CPU, under the names it has unwrapped and uncompiled."""
    state = net.state_dict()
    bare = OrderedDict((_bare_name(name), value.cpu()) for name, value in state.items())
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:  # modules read their own version from it when they load
        vars(bare)['_metadata'] = OrderedDict(
            (_bare_name(f'{name}.').removesuffix('.'), value) for name, value in metadata.items()
        )
    return bare


def _bare_name(name: str) -> str:
    return name.replace('_orig_mod.', '').removeprefix('module.')


@probe
def _saves_whole(save: Callable[..., None], *arguments: Any) -> bool:
    """Whether a failure to write comes out of a method of BaseModel, the final path never opened before it.

    The folder it is given is the null device, in which nothing can be made. A toolbox that fails before it comes to
    torch.save shows nothing of the names it would have saved.
    """
    opened, contents = [], []

    def fail_to_save(content: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        contents.append(content)
        opened.append(str(getattr(target, 'name', target)))
        raise OSError('probe')

    def fail_to_open(path: Any, *args: Any, **kwargs: Any) -> None:
        opened.append(str(path))
        raise OSError('probe')

    folders = {'models': os.devnull, 'training_states': os.devnull}
    model = SimpleNamespace(
        opt={'path': folders}, optimizers=[], schedulers=[], get_bare_model=lambda net: net,
        training_state=lambda epoch, current_iter: {},
    )  # fmt: skip
    with (
        swapped(torch, save=fail_to_save),
        swapped(
            base_model,
            time=SimpleNamespace(sleep=lambda seconds: None),
            get_root_logger=lambda *args, **kwargs: SILENT,
            open=fail_to_open,
        ),
    ):
        try:
            save(model, *arguments)
            return False
        except OSError:
            pass
    final = [each for each in opened if osp.basename(each) in ('net_g_1.pth', '1.state')]
    return not final and '_orig_mod.' not in str(contents)


@fix(
    where='models/base_model.py:217,229',
    upstream='none',
    symptom='a failed save only warns; a kill during a save leaves half a file; a compiled network loads nowhere else',
)
def networks_are_saved_whole() -> bool:
    """Replaces `save_network`. The form of the file stays: one state dict under each of `params`, `params_ema`."""
    compiled = nn.Module()
    compiled.add_module('_orig_mod', nn.BatchNorm1d(1))
    if _saves_whole(BaseModel.save_network, compiled, 'g', 1):
        return False

    @master_only
    def save_network(
        self: BaseModel,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int,
        param_key: str | list[str] = 'params',
    ) -> None:
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        if len(nets) != len(keys):
            raise ValueError(f'{len(nets)} networks to save under {len(keys)} keys {keys}')
        content = {key: bare_state_dict(self.get_bare_model(each)) for each, key in zip(nets, keys, strict=True)}
        iteration = 'latest' if current_iter == -1 else current_iter
        save_atomically(content, osp.join(self.opt['path']['models'], f'{net_label}_{iteration}.pth'))

    replace(BaseModel, 'save_network', save_network)
    return True


@probe
def _tells_unreadable(load: Callable[..., None]) -> bool:
    def fail_to_load(*args: Any, **kwargs: Any) -> None:
        raise pickle.UnpicklingError('probe')

    model = SimpleNamespace(get_bare_model=lambda net: net)
    with swapped(torch, load=fail_to_load), swapped(base_model, get_root_logger=lambda *args, **kwargs: SILENT):
        try:
            load(model, nn.Identity(), os.devnull)
        except RequestError:
            return True
    return False


@fix(
    where='models/base_model.py:293',
    upstream='none',
    symptom='weights that carry code, or safetensors, end in a traceback, and its text says how to load them unsafely',
)
def unreadable_weights_are_told() -> bool:
    """Wraps `load_network`, which the toolbox's own models use; RestorationModel has its own."""
    original = BaseModel.load_network
    if _tells_unreadable(original):
        return False

    @functools.wraps(original)
    def load_network(
        self: BaseModel, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        name = type(self).__name__
        if str(load_path).lower().endswith('.safetensors'):
            raise RequestError(
                f'{load_path}: model_type: {name} reads no safetensors, only .pth files; model_type: RestorationModel '
                'reads both'
            )
        try:
            original(self, net, load_path, strict, param_key)  # pyright: ignore[reportArgumentType]
        except pickle.UnpicklingError as error:
            refuse_code(load_path, error, SAVED_ANEW)
            raise RequestError(
                f'{load_path} is no weights file that model_type: {name} reads, or it is damaged '
                f'({loading_reason(error)}); give a .pth file that torch.save wrote of a state dict. Safetensors are '
                'read by model_type: RestorationModel'
            ) from error

    replace(BaseModel, 'load_network', load_network)
    return True


def training_state(self: BaseModel, epoch: int, current_iter: int) -> dict[str, Any]:
    """What is saved to go on from an iteration, in the toolbox's form; a model that needs more adds to it."""
    return {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [each.state_dict() for each in self.optimizers],
        'schedulers': [each.state_dict() for each in self.schedulers],
    }


@fix(
    where='models/base_model.py:309-338',
    upstream='none',
    symptom='a training state that could not be written is only warned of, one half written breaks the resume',
)
def training_states_are_saved_whole() -> bool:
    """Replaces `save_training_state`. Models call it after `save_network`: a whole state has its networks.

    What it saves comes from the model's `training_state`. Older checkpoints than `logger: keep_checkpoints` says are
    then removed.
    """
    if _saves_whole(BaseModel.save_training_state, 0, 1):
        return False

    @master_only
    def save_training_state(self: BaseModel, epoch: int, current_iter: int) -> None:
        if current_iter == -1:
            return
        state = self.training_state(epoch, current_iter)  # pyright: ignore[reportAttributeAccessIssue]
        save_atomically(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))
        keep = (self.opt.get('logger') or {}).get('keep_checkpoints')
        if keep is not None:
            remove_older_checkpoints(self.opt['path'], current_iter, keep, best_iterations(self))

    replace(BaseModel, 'training_state', training_state)
    replace(BaseModel, 'save_training_state', save_training_state)
    return True


def best_iterations(model: BaseModel) -> set[int]:
    """The iterations at which a validation metric was best so far."""
    best = getattr(model, 'best_metric_results', None) or {}
    return {int(record['iter']) for metrics in best.values() for record in metrics.values()}


def remove_older_checkpoints(paths: dict[str, str], iteration: int, keep: int, best: set[int]) -> None:
    """Removes what is older than the newest `keep` checkpoints, of which the one just saved is the first.

    A checkpoint is a training state with its networks, `net_LABEL_ITERATION.pth`. The state goes first: one that is
    there has its networks. `net_LABEL_latest.pth` stays. What cannot be removed is warned of.

    Args:
        paths: The folders `models` and `training_states`.
        iteration: The checkpoint just saved.
        keep: How many stay, 1 or more.
        best: Iterations whose checkpoints stay in any case.
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
                base_model.get_root_logger().warning(f'logger: keep_checkpoints: cannot remove {path}: {error}')
                break


def _by_iteration(folder: str, pattern: str) -> dict[int, list[str]]:
    files: dict[int, list[str]] = {}
    for name in sorted(os.listdir(folder)) if osp.isdir(folder) else []:
        match = re.fullmatch(pattern, name)
        if match:
            files.setdefault(int(match[1]), []).append(osp.join(folder, name))
    return files
