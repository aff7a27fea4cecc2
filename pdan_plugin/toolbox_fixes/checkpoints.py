"""Checkpoints: written whole or not at all, and reported if they cannot be read."""

from __future__ import annotations

import os
import pickle
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
from pdan_plugin.files.torch_files import reasons_in_short, save_atomically
from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped
from pdan_plugin.training.checkpoints import best_iterations, remove_older_checkpoints
from pdan_plugin.weights.bare_state import bare_state_dict
from pdan_plugin.weights.weights_file import read_weights


def _compiled_network() -> nn.Module:
    compiled = nn.Module()
    compiled.add_module('_orig_mod', nn.BatchNorm1d(1))
    return compiled


@probe
def _saves_whole(save: Callable[..., None], *arguments: Any) -> bool:
    """Whether a method of BaseModel raises its write errors and does not open the final path before it is complete.

    Also checks that the saved names lack the prefix of a compiled network. The folder is the null device, so no file
    can be created. If a toolbox fails before torch.save, the names cannot be checked.
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
    symptom='a failed save only warns; a kill during a save leaves half a file; a compiled network cannot be loaded',
    behaves=lambda: _saves_whole(BaseModel.save_network, _compiled_network(), 'g', 1),
)
def networks_are_saved_whole() -> None:
    """Replaces `save_network`. The file format is unchanged: one state dict under each of `params`, `params_ema`."""

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


@probe
def _reports_what_it_cannot_read(load: Callable[..., None]) -> bool:
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
    where='models/base_model.py:277-303',
    upstream='none',
    symptom='weights with code, safetensors, or of other trainers end in a traceback; of two prefixes one is removed',
    behaves=lambda: _reports_what_it_cannot_read(BaseModel.load_network),
)
def weights_have_one_reader() -> None:
    """Replaces `load_network` of the toolbox's models: they read what RestorationModel reads, which has its own."""

    def load_network(
        self: BaseModel, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        network: Any = self.get_bare_model(net)
        weights = read_weights(str(load_path), param_key, network.state_dict())
        base_model.get_root_logger().info(f'Loading {type(network).__name__} weights from {load_path} [{param_key}].')
        self._print_different_keys_loading(network, weights, strict)
        try:
            network.load_state_dict(weights, strict=strict)
        except RuntimeError as error:
            raise RequestError(
                f'{load_path} does not fit {type(network).__name__}:\n{reasons_in_short(error)}\n'
                'Give the weights of this network, or set strict_load to false for it in path: to load what fits.'
            ) from error

    replace(BaseModel, 'load_network', load_network)


def training_state(self: BaseModel, epoch: int, current_iter: int) -> dict[str, Any]:
    """The training state of an iteration, in the toolbox's format. A model that needs more overrides it."""
    return {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [each.state_dict() for each in self.optimizers],
        'schedulers': [each.state_dict() for each in self.schedulers],
    }


@fix(
    where='models/base_model.py:309-338',
    upstream='none',
    symptom='a training state that cannot be written gives a warning only; a partly written one breaks the resume',
    behaves=lambda: _saves_whole(BaseModel.save_training_state, 0, 1),
)
def training_states_are_saved_whole() -> None:
    """Replaces `save_training_state`. Models call it after `save_network`, so an existing state has its networks.

    The model's `training_state` returns the content. After saving, checkpoints beyond `logger: keep_checkpoints` are
    removed.
    """

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
