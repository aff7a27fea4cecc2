"""Tries one step of a run before it starts: the network, its losses, and the picture sizes of the validation.

The network runs on tensors with shapes but without values, at the real sizes. If it cannot, it runs on the CPU, first
at small sizes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.models.hifacegan_model import HiFaceGANModel
from basicsr.models.sr_model import SRModel
from basicsr.models.srgan_model import SRGANModel
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY
from torch import Tensor, nn

from pdan_plugin.commands.data_check import DataFacts
from pdan_plugin.commands.trial import as_request
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accepted_sizes import accepted_sizes, trial_batch
from pdan_plugin.models.sharded_validation import ShardedValidationModel
from pdan_plugin.option_schema.constructors import find_registered, is_own

_PIXEL_LOSSES = ('pixel_opt', 'deblur_opt', 'dual_opt')
_PICTURE = (1, 3, 16, 16)  # for a loss, where the output's shape is not known
_FEW_FRAMES = 7


def check_step(
    opt: Mapping[str, Any], networks: Mapping[str, nn.Module], data: Sequence[DataFacts], path: str, *, is_train: bool
) -> None:
    """Tries a step of training and one of validation with the models of the toolbox and of this package.

    Another plugin's model may call its network in another way; with it, only the losses are tried.

    Args:
        opt: The options.
        networks: The built networks by their key, on the CPU; not changed.
        data: The facts of the data sets.
        path: The option file, for messages.

    Raises:
        RequestError: Network, loss, crop or pictures do not fit each other.
    """
    model: Any = find_registered(MODEL_REGISTRY, opt['model_type'])
    is_known = is_own(model) and issubclass(model, SRModel) and not issubclass(model, HiFaceGANModel)
    output = None
    if is_train and is_known:
        output = _try_training(opt, networks, data, path, has_critic=issubclass(model, SRGANModel))
    if is_train:
        _try_losses(opt['train'], output, path)
    for facts in data:
        if is_known and facts.phase != 'train' and facts.lq_shape is not None:
            with as_request(f'{path}: network_g: it cannot restore the pictures of {facts.phase}'):
                _try_validation(opt, model, networks['network_g'], facts)


def _try_training(
    opt: Mapping[str, Any], networks: Mapping[str, nn.Module], data: Sequence[DataFacts], path: str, *, has_critic: bool
) -> tuple[int, ...] | None:
    """Forward and backward pass on the crops of the training data. Returns the shape of the output, for one sample."""
    facts = next(facts for facts in data if facts.phase == 'train')
    batch = min(2, int(opt['datasets']['train']['batch_size_per_gpu']))
    gt = facts.gt_shape
    lq = facts.lq_shape or degraded_crop(opt)
    if lq is None or gt is None:
        return None
    if facts.lq_shape is None:
        gt = (*gt[:-2], opt['gt_size'], opt['gt_size'])

    def step(device: str, small: bool) -> tuple[int, ...]:
        crop = _reduced(lq, networks['network_g']) if small else lq
        network = copy.deepcopy(networks['network_g']).to(device).train()
        output = network(torch.zeros(batch, *crop, device=device))
        if not isinstance(output, Tensor):
            return ()
        if crop == lq and output.shape != (batch, *gt):
            raise RequestError(
                f'an output of shape {tuple(output.shape)} for an input of {(batch, *lq)}, but the ground truth has '
                f'{(batch, *gt)}; give data of that scale and size'
            )
        loss = output.float().mean()
        if has_critic and 'network_d' in networks:
            with as_request('network_d'):
                critic = copy.deepcopy(networks['network_d']).to(device).train()
                loss = loss + critic(output.flatten(0, -4)).float().mean()
        loss.backward()
        return (1, *output.shape[1:])

    with as_request(f'{path}: network_g: a training step on crops of {lq[-1]}x{lq[-2]} fails'):
        return _cheapest(step, [('meta', False), ('cpu', True), ('cpu', False)]) or None


def degraded_crop(opt: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The LR crop of data sets that give only ``gt``, which the model degrades (Real-ESRGAN)."""
    if 'gt_size' not in opt or not opt.get('scale'):
        return None
    side = int(opt['gt_size'] // opt['scale'])
    return 3, side, side


def _try_losses(train: Mapping[str, Any], output: Sequence[int] | None, path: str) -> None:
    """Builds each loss, and tries the pixel losses, forward and backward: they must return one number.

    Perceptual losses are skipped, because building one loads a network.
    """
    for key, values in train.items():
        if not (key.endswith('_opt') and isinstance(values, Mapping) and values.get('type') in LOSS_REGISTRY):
            continue
        if values['type'] == 'PerceptualLoss':
            continue
        with as_request(f'{path}: train.{key}'):
            loss = build_loss(dict(values))
            if key in _PIXEL_LOSSES:
                shape = output if output is not None and key == 'pixel_opt' else _PICTURE
                result = loss(torch.zeros(*shape, requires_grad=True), torch.ones(*shape))
                if result.dim() != 0:
                    raise RequestError(f'returns shape {tuple(result.shape)}, expected one number; set reduction: mean')
                result.backward()


def _try_validation(opt: Mapping[str, Any], model: Any, network: nn.Module, facts: DataFacts) -> None:
    """Restores a picture as the model's ``test`` does, which extends it to a size that the network accepts."""
    lq, gt = facts.lq_shape, facts.gt_shape
    assert lq is not None
    if issubclass(model, ShardedValidationModel):
        if len(lq) == 3:
            _require_fitting_output(network, lq, gt)
        return

    def step(device: str, small: bool) -> tuple[int, ...]:
        tester = object.__new__(model)
        tester.opt, tester.is_train, tester.device = opt, False, torch.device(device)
        tester.net_g = copy.deepcopy(network).to(device)
        sides = _alike_for_windows(lq[-2:], network, 64) if small else lq[-2:]
        tester.lq = torch.zeros(1, *lq[:-2], *sides, device=device)
        tester.test()
        found = tuple(tester.output.shape)
        if gt is not None:
            due_sides = (side * above // below for side, above, below in zip(sides, gt[-2:], lq[-2:], strict=True))
            due = (1, *gt[:-2], *due_sides)
            if found != due:
                raise RequestError(
                    f'an output of shape {found} for an input of {tuple(tester.lq.shape)}, but the ground truth has '
                    f'{due}; give a network or data of that scale'
                )
        return found

    try:
        _cheapest(step, [('meta', False), ('cpu', True)])
    except Exception as error:
        raise RequestError(
            f'{model.__name__} gives it whole pictures, here of {lq[-1]}x{lq[-2]}, and it fails: {error}'
        ) from error


def _require_fitting_output(network: nn.Module, lq: Sequence[int], gt: Sequence[int] | None) -> None:
    """Restores a small picture with the channels of these, and compares the result's channels and scale with theirs."""
    evaluated = copy.deepcopy(network).eval()
    with torch.no_grad():
        batch = trial_batch(lq[0], accepted_sizes(evaluated, evaluated, [lq[0]]).multiple)
        output = evaluated(batch)
    if gt is None:
        return
    scale = gt[-1] // lq[-1]
    if output.shape[1:] != (gt[0], *(scale * side for side in batch.shape[-2:])):
        raise RequestError(
            f'an output of shape {tuple(output.shape)} for an input of {tuple(batch.shape)}, but the ground truth has '
            f'{gt[0]} channel(s) and is {scale} times as large; give a network or data of that scale'
        )


def _cheapest(step: Callable[[str, bool], tuple[int, ...]], ways: Sequence[tuple[str, bool]]) -> tuple[int, ...]:
    """The result of a step in the first way (device, whether at a small size) in which it works.

    Raises:
        Exception: The error of the last way. In an earlier one the device or the small size may be at fault.
    """
    for device, small in ways[:-1]:
        with suppress(Exception):
            return step(device, small)
    return step(*ways[-1])


def _reduced(crop: Sequence[int], network: nn.Module) -> tuple[int, ...]:
    frames = [min(length, _FEW_FRAMES) for length in crop[:-3]]
    return (*frames, crop[-3], *_alike_for_windows(crop[-2:], network, 32))


def _alike_for_windows(sides: Sequence[int], network: nn.Module, least: int) -> tuple[int, ...]:
    """Smaller sides, of at least ``least``, with the same remainders by the network's windows."""
    windows = [getattr(module, 'window_size', None) for module in network.modules()]
    common = math.lcm(least, *(window for window in windows if isinstance(window, int) and window > 0))
    return tuple(side if side < 2 * common else side % common + common for side in sides)
