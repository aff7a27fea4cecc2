"""The estimated memory of one training worker as text, with advice if it does not fit."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from pdan_plugin.commands.data_check import size_in_words
from pdan_plugin.commands.preflight import RunFacts
from pdan_plugin.machine import network_size
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.machine.step_memory import step_memory
from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.keys_read import keys_read

_PAPERS_BATCH = 128  # PDAN's batch in the paper
_SPARE = 0.1  # share of a GPU's memory for convolution workspace, fragmentation and other programs


def memory_lines(
    opt: Mapping[str, Any],
    facts: RunFacts,
    network: torch.nn.Module,
    parameters: Mapping[str, int],
    crop: tuple[int, ...] | None,
) -> list[str]:
    """The estimate, one line per part, with notes below.

    Args:
        opt: The options of a training.
        facts: The result of `check_run`.
        network: ``network_g``, on the CPU.
        parameters: Number of parameters of each network, by the key of its section.
        crop: (c, h, w) of the LR crop; None if it is not known, then the backward pass cannot be measured.
    """
    train, model = opt['train'], find_registered(MODEL_REGISTRY, opt['model_type'])
    trained = {key: section for key in parameters if (section := train.get(key.replace('network_', 'optim_')))}
    state = sum(4 * parameters[key] * network_size.optimizer_values(model, section) for key, section in trained.items())
    gradients = 4 * parameters['network_g']
    parts = {
        'parameters': 4 * sum(parameters.values()),
        'optimizer': state,
        'moving average': 4 * parameters['network_g'] if train.get('ema_decay', 0) > 0 else 0,
        'gradient buffers for averaging over workers': gradients if facts.world_size > 1 else 0,
    }
    others = [key for key in trained if key != 'network_g']
    parts[f'gradients of {", ".join(others)}'] = sum(4 * parameters[key] for key in others)

    batch_size, steps = batch_and_parts(opt)
    precision = train.get('precision', 'fp32')
    pictures = [data.gt_shape for data in facts.data if data.phase == 'train' and data.gt_shape]
    step = None
    if crop is not None:
        step = step_memory(
            network,
            (batch_size, *crop),
            precision,
            pictures=[(batch_size, *shape) for shape in pictures],
            channels_last=bool(train.get('channels_last')),
            accumulates=steps > 1,
        )
    if step is None:
        parts['gradients'] = gradients
        notes = ['Not included: tensors kept for the backward pass, which could not be measured.']
    else:
        parts[f'kept for the backward pass: {batch_size} x {size_in_words(crop or ())} in {precision}'] = step.kept
        parts['gradients and intermediate results at the fullest moment'] = step.peak - step.kept
        notes = [f'Each of the {batch_size} samples takes {memory_in_words(step.per_sample)} of it.']
        if step.is_scaled:
            notes[0] += ' Scaled up from a small crop.'
        takes_parts = 'accumulation_steps' in keys_read(model).read.get('train', ())
        gpu = gpu_memory() if facts.devices else None
        needed = sum(parts.values())
        if gpu is not None:
            notes.append(_gpu_note(opt, gpu, needed, step.per_sample, takes_parts))
        fits = gpu is None or needed <= gpu[1] * (1 - _SPARE)
        if fits and takes_parts and (further := _papers_batch_note(opt, facts, gradients)):
            notes.append(further)
    notes.append(
        "These are torch's tensors. Not included: networks of losses, and workspace of the convolutions"
        + ('.' if facts.devices else '; on a CPU also the program itself, and up to half as much again for gaps.')
    )
    if others:
        notes.append(f'Not included: intermediate results of {", ".join(others)}.')
    if train.get('compile'):
        notes.append('Compiled, a step allocates differently; that is not in it.')
    lines = [f'{memory_in_words(value):>10}  {name}' for name, value in parts.items() if value]
    lines.append(f'{memory_in_words(sum(parts.values())):>10}  in all')
    return ['Memory of one worker, an estimate', *(f'  {line}' for line in [*lines, *notes])]


def _gpu_note(opt: Mapping[str, Any], gpu: tuple[str, int], needed: int, per_sample: int, takes_parts: bool) -> str:
    """The batch size that fits on the GPU, with advice if the current one does not fit."""
    name, size = gpu
    batch_size, steps = batch_and_parts(opt)
    room = int(size * (1 - _SPARE)) - (needed - per_sample * batch_size)
    fitting = max(0, room // per_sample)
    if fitting >= batch_size:
        return f'{name} has {memory_in_words(size)}: about {fitting} samples would fit.'
    ways = []
    share = max((count for count in range(1, fitting + 1) if batch_size % count == 0), default=None)
    if share is not None and takes_parts:
        parts = batch_size // share * steps
        ways.append(f'batch_size_per_gpu: {share} with train.accumulation_steps: {parts} gives the same step and fits')
    elif share is not None:
        ways.append(f'batch_size_per_gpu: {fitting} fits')
    constructor: Any = find_registered(ARCH_REGISTRY, opt['network_g']['type'])
    if 'checkpointing' in inspect.signature(constructor).parameters and not opt['network_g'].get('checkpointing'):
        ways.append('network_g.checkpointing: true needs less memory and more time')
    advice = '; '.join(['this does not fit', *ways] if ways else ['not even one sample would fit'])
    return f'{name} has {memory_in_words(size)}: {advice}.'


def _papers_batch_note(opt: Mapping[str, Any], facts: RunFacts, gradients: int) -> str | None:
    """How to reach the paper's batch, if PDAN's batch is smaller."""
    _, steps = batch_and_parts(opt)
    step = facts.batch_size * facts.world_size
    if opt['network_g']['type'] != 'PDAN' or step >= _PAPERS_BATCH or _PAPERS_BATCH % (step // steps):
        return None
    more = f', and takes {memory_in_words(gradients)} more' if steps == 1 else ''
    return (
        f'A step has {step} samples; train.accumulation_steps: {_PAPERS_BATCH // (step // steps)} makes it the '
        f"paper's {_PAPERS_BATCH}{more}."
    )


def batch_and_parts(opt: Mapping[str, Any]) -> tuple[int, int]:
    """Samples per part, and parts per step."""
    return int(opt['datasets']['train']['batch_size_per_gpu']), int(opt['train'].get('accumulation_steps', 1))


def gpu_memory() -> tuple[str, int] | None:
    """Name and bytes of this machine's first GPU; None if there is none."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory
