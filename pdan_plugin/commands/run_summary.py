"""How large a run is, in words: its data, its epochs, its networks, and the memory that training takes."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from pdan_plugin.commands.preflight import RunFacts, check_run, size_in_words, toolbox_silent
from pdan_plugin.errors import RequestError
from pdan_plugin.machine import network_size
from pdan_plugin.machine.precision import slowness
from pdan_plugin.machine.step_memory import step_memory
from pdan_plugin.option_schema.completion import is_training
from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.keys_read import keys_read
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.weights.weights_file import read_weights

_PAPERS_BATCH = 128  # of PDAN
_SPARE = 0.1  # of a GPU's memory: workspace of the convolution library, fragmentation, what else is on it


def summarize(
    opt: Mapping[str, Any],
    path: str,
    *,
    world_size: int = 1,
    overrides: Sequence[str] = (),
    without: Sequence[str] = (),
) -> str:
    """All checks of `check_run`, and how large the run is, as text that ends with the next command.

    Args:
        overrides: The ``--force_yml`` that ``opt`` holds already; the next command has them too.
        without: Keys of ``path:`` whose weights are not there yet; all but these is checked, and no next command told.

    Raises:
        RequestError: As `check_run`; or a network cannot be built, or its weights do not fit.
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
        _, steps = _batch(opt)
        parts = f', worked through in {steps} parts,' if steps > 1 else ''
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
    with toolbox_silent():
        networks = {
            key: build_network(values, key)
            for key, values in opt.items()
            if key.startswith('network_') and (is_train or key == 'network_g')
        }
    parameters = {key: network_size.count_parameters(network) for key, network in networks.items()}
    lines = [f'  {key}: {opt[key]["type"]}, {count:,} parameters' for key, count in parameters.items()]
    if (branch := getattr(networks['network_g'], 'deblur_branch', None)) is not None:
        in_use = parameters['network_g'] - network_size.count_parameters(branch)
        lines[list(networks).index('network_g')] += f', {in_use:,} of them without the deblurring branch, as in use'
    network = networks['network_g']
    whole = next((data.lq_shape for data in reversed(facts.data) if data.lq_shape and data.phase != 'train'), None)
    crop = next((data.lq_shape for data in facts.data if data.phase == 'train'), None) or _crop_by_options(opt)
    for shape in dict.fromkeys(shape for shape in (whole, crop if is_train else None) if shape):
        macs = network_size.multiply_accumulates(network, (1, *shape))
        if macs is not None:
            scaled = ', scaled from a small crop' if macs.is_scaled else ''
            lines.append(
                f'  network_g: {_short(macs.value)} multiply-accumulates for an input of {size_in_words(shape)}{scaled}'
            )
    _check_fit(opt, network)
    if is_train:
        lines += ['', *_memory_lines(opt, facts, network, parameters, crop)]
    return lines


def _crop_by_options(opt: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The LR crop of data sets that give only ``gt``, degraded in the model (Real-ESRGAN's)."""
    if 'gt_size' not in opt or not opt.get('scale'):
        return None
    side = int(opt['gt_size'] // opt['scale'])
    return 3, side, side


def _check_fit(opt: Mapping[str, Any], network: torch.nn.Module) -> None:
    paths = opt.get('path') or {}
    weights = paths.get('pretrain_network_g')
    if weights is None or not paths.get('strict_load_g', True):
        return
    try:
        network.load_state_dict(read_weights(os.path.expanduser(weights), paths.get('param_key_g', 'params')))
    except RuntimeError as error:
        raise RequestError(f'path.pretrain_network_g: {weights} does not fit network_g: {error}') from error


def _memory_lines(
    opt: Mapping[str, Any],
    facts: RunFacts,
    network: torch.nn.Module,
    parameters: Mapping[str, int],
    crop: tuple[int, ...] | None,
) -> list[str]:
    train, model = opt['train'], find_registered(MODEL_REGISTRY, opt['model_type'])
    trained = {key: section for key in parameters if (section := train.get(key.replace('network_', 'optim_')))}
    state = sum(4 * parameters[key] * network_size.optimizer_values(model, section) for key, section in trained.items())
    gradients = 4 * parameters['network_g']
    parts = {
        'parameters': 4 * sum(parameters.values()),
        'optimizer': state,
        'moving average': 4 * parameters['network_g'] if train.get('ema_decay', 0) > 0 else 0,
        'gradients, to be averaged over the workers': gradients if facts.world_size > 1 else 0,
    }
    others = [key for key in trained if key != 'network_g']
    parts[f'gradients of {", ".join(others)}'] = sum(4 * parameters[key] for key in others)

    batch_size, steps = _batch(opt)
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
        notes = ['What the backward pass keeps could not be measured and comes on top.']
    else:
        parts[f'kept for the backward pass: {batch_size} x {size_in_words(crop or ())} in {precision}'] = step.kept
        parts['gradients and intermediate results at the fullest moment'] = step.peak - step.kept
        notes = [f'Each of the {batch_size} samples takes {_bytes(step.per_sample)} of it.']
        if step.is_scaled:
            notes[0] += ' Scaled from a small crop.'
        takes_parts = 'accumulation_steps' in keys_read(model).read.get('train', ())
        gpu = gpu_memory() if facts.devices else None
        needed = sum(parts.values())
        if gpu is not None:
            notes.append(_gpu_note(opt, gpu, needed, step.per_sample, takes_parts))
        fits = gpu is None or needed <= gpu[1] * (1 - _SPARE)
        if fits and takes_parts and (further := _papers_batch_note(opt, facts, gradients)):
            notes.append(further)
    notes.append(
        "These are torch's tensors. Losses with networks of their own and the convolutions' workspace come on top"
        + ('.' if facts.devices else '; on a CPU the program itself, and gaps between tensors of up to half as much.')
    )
    if others:
        notes.append(f'What {", ".join(others)} keeps in its own steps comes on top too.')
    if train.get('compile'):
        notes.append('Compiled, a step allocates differently; that is not in it.')
    lines = [f'{_bytes(value):>10}  {name}' for name, value in parts.items() if value]
    lines.append(f'{_bytes(sum(parts.values())):>10}  in all')
    return ['Memory of one worker, an estimate', *(f'  {line}' for line in [*lines, *notes])]


def _gpu_note(opt: Mapping[str, Any], gpu: tuple[str, int], needed: int, per_sample: int, takes_parts: bool) -> str:
    """How large a batch the GPU would hold; where it does not hold this one, what to change."""
    name, size = gpu
    batch_size, steps = _batch(opt)
    room = int(size * (1 - _SPARE)) - (needed - per_sample * batch_size)
    fitting = max(0, room // per_sample)
    if fitting >= batch_size:
        return f'{name} has {_bytes(size)}: about {fitting} samples would fit.'
    ways = []
    share = max((count for count in range(1, fitting + 1) if batch_size % count == 0), default=None)
    if share is not None and takes_parts:
        parts = batch_size // share * steps
        ways.append(f'batch_size_per_gpu: {share} with train.accumulation_steps: {parts} is the same step and would')
    elif share is not None:
        ways.append(f'batch_size_per_gpu: {fitting} would')
    constructor: Any = find_registered(ARCH_REGISTRY, opt['network_g']['type'])
    if 'checkpointing' in inspect.signature(constructor).parameters and not opt['network_g'].get('checkpointing'):
        ways.append('network_g.checkpointing: true keeps less and takes longer')
    advice = '; '.join(['this does not fit', *ways] if ways else ['not even one sample would fit'])
    return f'{name} has {_bytes(size)}: {advice}.'


def _papers_batch_note(opt: Mapping[str, Any], facts: RunFacts, gradients: int) -> str | None:
    """How PDAN's batch reaches the paper's, where it is smaller."""
    _, steps = _batch(opt)
    step = facts.batch_size * facts.world_size
    if opt['network_g']['type'] != 'PDAN' or step >= _PAPERS_BATCH or _PAPERS_BATCH % (step // steps):
        return None
    more = f', and takes {_bytes(gradients)} more' if steps == 1 else ''
    return (
        f'A step is of {step} samples; train.accumulation_steps: {_PAPERS_BATCH // (step // steps)} makes it the '
        f"paper's {_PAPERS_BATCH}{more}."
    )


def _batch(opt: Mapping[str, Any]) -> tuple[int, int]:
    """Samples that go through the network at once, and how many such parts a step has."""
    return int(opt['datasets']['train']['batch_size_per_gpu']), int(opt['train'].get('accumulation_steps', 1))


def gpu_memory() -> tuple[str, int] | None:
    """The name of this machine's first GPU and its bytes; None where there is none."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(0)
    return properties.name, properties.total_memory


def _short(number: int) -> str:
    for unit, size in (('T', 1e12), ('G', 1e9), ('M', 1e6)):
        if number >= size:
            return f'{number / size:.4g}{unit}'
    return str(number)


def _bytes(number: int) -> str:
    return f'{number / 2**30:.2f} GiB' if number >= 2**30 else f'{number / 2**20:.1f} MiB'
