"""The size of a run as text: its data, epochs, networks, and the memory for training."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pdan_plugin.commands.data_check import size_in_words
from pdan_plugin.commands.memory_summary import batch_and_parts, memory_lines
from pdan_plugin.commands.preflight import RunFacts, check_run
from pdan_plugin.commands.step_check import degraded_crop
from pdan_plugin.errors import RequestError
from pdan_plugin.machine import network_size
from pdan_plugin.machine.precision import slowness
from pdan_plugin.option_schema.completion import is_training
from pdan_plugin.weights.weights_file import read_weights


def summarize(
    opt: Mapping[str, Any],
    path: str,
    *,
    world_size: int = 1,
    overrides: Sequence[str] = (),
    without: Sequence[str] = (),
) -> str:
    """Makes all checks of `check_run` and returns the size of the run as text, with the next command at the end.

    Args:
        overrides: The ``--force_yml`` entries that ``opt`` already includes; the next command gets them too.
        without: Keys of ``path:`` with missing weights. Everything else is checked, and the text has no next command.

    Raises:
        RequestError: See `check_run`; or a network cannot be built, or its weights do not fit.
    """
    is_train = is_training(opt)
    overrides = list(overrides)
    opt = {**opt, 'path': {**(opt.get('path') or {}), **dict.fromkeys(without)}}
    facts = check_run(opt, path, is_train=is_train, world_size=world_size, distributed=world_size > 1)
    lines = [f'{path}: options and data are in order.', '', 'Data']
    for data in facts.data:
        pictures = ', '.join(
            f'{name} {size_in_words(shape)}' for name, shape in (('lq', data.lq_shape), ('gt', data.gt_shape)) if shape
        )
        lines.append(f'  {data.phase}: {data.samples} samples of {data.kind}{", " + pictures if pictures else ""}')
    if is_train:
        total = int(opt['train']['total_iter'])
        _, steps = batch_and_parts(opt)
        parts = f', computed in {steps} parts,' if steps > 1 else ''
        workers = f'{facts.world_size} worker{"s" if facts.world_size > 1 else ""}'
        lines += [
            '',
            'Training',
            f'  {facts.iterations} iterations an epoch (batches of {facts.batch_size}{parts} in {workers}), '
            f'{total} iterations: {total / facts.iterations:.1f} epochs',
        ]
        if facts.devices == 0 and (slow := slowness(torch.device('cpu'), opt['train'].get('precision', 'fp32'))):
            lines.append(f'  {slow}: --force_yml train:precision=fp32')
            overrides.append('train:precision=fp32')
    lines += ['', 'Networks', *_network_lines(opt, facts, is_train)]
    command = 'train' if is_train else 'test'
    words = ['basicsr', command, '-opt', path, *(['--nproc', str(world_size)] if world_size > 1 else [])]
    words += ['--force_yml', *overrides] if overrides else []
    return '\n'.join(lines if without else [*lines, '', f'Next: {shlex.join(words)}'])


def _network_lines(opt: Mapping[str, Any], facts: RunFacts, is_train: bool) -> list[str]:
    networks = facts.networks
    parameters = {key: network_size.count_parameters(network) for key, network in networks.items()}
    lines = [f'  {key}: {opt[key]["type"]}, {count:,} parameters' for key, count in parameters.items()]
    if (branch := getattr(networks['network_g'], 'deblur_branch', None)) is not None:
        at_inference = parameters['network_g'] - network_size.count_parameters(branch)
        lines[list(networks).index('network_g')] += f', {at_inference:,} at inference (without the deblurring branch)'
    network = networks['network_g']
    whole = next((data.lq_shape for data in reversed(facts.data) if data.lq_shape and data.phase != 'train'), None)
    crop = next((data.lq_shape for data in facts.data if data.phase == 'train'), None) or degraded_crop(opt)
    for shape in dict.fromkeys(shape for shape in (whole, crop if is_train else None) if shape):
        macs = network_size.multiply_accumulates(network, (1, *shape))
        if macs is not None:
            scaled = ', scaled up from a small crop' if macs.is_scaled else ''
            lines.append(
                f'  network_g: {_short(macs.value)} multiply-accumulates for an input of {size_in_words(shape)}{scaled}'
            )
    _check_fit(opt, network)
    if is_train:
        lines += ['', *memory_lines(opt, facts, network, parameters, crop)]
    return lines


def _check_fit(opt: Mapping[str, Any], network: torch.nn.Module) -> None:
    paths = opt.get('path') or {}
    weights = paths.get('pretrain_network_g')
    if weights is None or not paths.get('strict_load_g', True):
        return
    try:
        key = paths.get('param_key_g', 'params')
        network.load_state_dict(read_weights(os.path.expanduser(weights), key, network.state_dict()))
    except RuntimeError as error:
        raise RequestError(f'path.pretrain_network_g: {weights} does not fit network_g: {error}') from error


def _short(number: int) -> str:
    for unit, size in (('T', 1e12), ('G', 1e9), ('M', 1e6)):
        if number >= size:
            return f'{number / size:.4g}{unit}'
    return str(number)
