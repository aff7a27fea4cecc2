"""The time of a training step by kind of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch._inductor import config as inductor
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.contenders import Contender, ours, pdan, rcan
from benchmarks.pictures import training_batch
from benchmarks.timing import medians, times_in_turn

SETTINGS = ('bf16+channels_last', 'bf16+channels_last+compile')
_BATCH = 4
_STEPS = 3
_LISTED = 12

CONVOLUTION_FORWARD = 'convolution, forward'
CONVOLUTION_BACKWARD = 'convolution, backward'
PIXEL_SHUFFLE = 'pixel shuffle (compiled: with what is fused to it)'
COPIES = 'copies (number format, layout)'
ELEMENTWISE = 'elementwise and sums'
COMPILED = 'other compiled kernels (elementwise, sums, copies)'
UPDATE = 'optimizer and EMA'
GUARD = 'check of the gradients'
OTHER = 'other (Python, autograd, allocation)'
GROUPS = (
    CONVOLUTION_FORWARD,
    CONVOLUTION_BACKWARD,
    PIXEL_SHUFFLE,
    COPIES,
    ELEMENTWISE,
    COMPILED,
    UPDATE,
    GUARD,
    OTHER,
)
_FUSED_BLOCK = ('_GatedBranch', '_BiasedReLU')  # pdan_plugin.archs.fused_block, forward and backward
_COMPILED_NAMES = ('cpp_fused', 'triton_', 'CompiledFxGraph', 'CompiledFunction', 'Torch-Compiled')


def profile_training(width: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Profiles RCAN and PDAN of a width, each in the faster of the two full settings, batches of 4 of 64x64.

    Returns:
        ``networks``: by name ``setting``, ``seconds`` of a step as timed, ``profiled_seconds`` (recording slows it
        down), ``groups`` (seconds a step by kind of work; on CUDA those of the card), ``operators`` (the costliest:
        name, seconds a step, calls a step).
    """
    networks = {}
    for name, network in (('RCAN', rcan(width)), ('PDAN', pdan(width))):
        with inductor.patch('cpp.enable_kernel_profile', True):  # otherwise compiled kernels have no names
            networks[name] = _profile_network(network, rounds, device, f'{name}, {width} features')
        torch.compiler.reset()
    return {'benchmark': 'train --profile', 'width': width, 'networks': networks}


def _profile_network(network: Mapping[str, Any], rounds: int, device: torch.device, name: str) -> dict[str, Any]:
    batches = [training_batch(_BATCH, seed=0, number=number) for number in range(4)]
    sides = {setting: ours(network, setting, device) for setting in SETTINGS}
    candidates = {setting: side.candidate(batches) for setting, side in sides.items()}
    seconds = medians(times_in_turn(candidates, rounds, device=device, description=name))
    setting = min(seconds, key=lambda each: seconds[each])
    measured = record(sides[setting], candidates[setting].call, device)
    return {'setting': setting, 'seconds': seconds[setting], **measured}


def record(side: Contender, step: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """``profiled_seconds``, ``groups`` and ``operators`` of a contender's step, see :func:`profile_training`."""
    activities = [ProfilerActivity.CPU]
    if device.type == 'cuda':
        activities.append(ProfilerActivity.CUDA)
    with _named_parts(side.model), profile(activities=activities, record_shapes=True) as profiler:
        for _ in range(_STEPS):
            with record_function('training step'):
                step()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    groups: Counter[str] = Counter()
    operators: dict[str, list[float]] = {}
    for event in profiler.events() or []:
        if event.device_type.name != 'CPU':
            continue  # a kernel: its time is already counted for its operator
        spent = event.self_device_time_total if device.type == 'cuda' else event.self_cpu_time_total
        seconds = spent / 1e6 / _STEPS
        groups[_group(event)] += seconds
        listed = operators.setdefault(event.name, [0.0, 0.0])
        listed[0] += seconds
        listed[1] += 1 / _STEPS
    costliest = sorted(operators.items(), key=lambda item: -item[1][0])[:_LISTED]
    return {
        'profiled_seconds': sum(groups.values()),
        'groups': {name: groups[name] for name in GROUPS},
        'operators': [{'name': name, 'seconds': seconds, 'calls': calls} for name, (seconds, calls) in costliest],
    }


@contextmanager
def _named_parts(model: Any) -> Iterator[None]:
    """Names two parts of a step for the profiler, which names only the optimizer's by itself."""
    named = ((model, 'model_ema', 'EMA'), (model.guard, 'admits', GUARD), (model.guard, 'find', GUARD))
    for owner, method, name in named:
        setattr(owner, method, _recorded(getattr(owner, method), name))
    try:
        yield
    finally:
        for owner, method, _ in named:
            delattr(owner, method)


def _recorded(call: Callable[..., Any], name: str) -> Callable[..., Any]:
    def recorded(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return call(*args, **kwargs)

    return recorded


def _group(event: Any) -> str:
    names = list(_names_outward(event))
    if any(name == 'EMA' or name.startswith('Optimizer.') for name in names):
        return UPDATE
    if GUARD in names:
        return GUARD
    if any(part in event.name for part in _COMPILED_NAMES):
        return PIXEL_SHUFFLE if 'pixel_' in event.name else COMPILED
    if any('convolution_backward' in name for name in names):
        return CONVOLUTION_BACKWARD
    if any(name.startswith(('aten::', 'mkldnn::')) and 'conv' in name for name in names):
        return CONVOLUTION_FORWARD
    # 'pixel_shuffle', and PDAN's own form: the only copies that rearrange pixels into sub-pixels
    if any('pixel_shuffle' in name or 'pixel_unshuffle' in name for name in names) or _cuts_pixels_up(event):
        return PIXEL_SHUFFLE
    if event.name == 'aten::copy_':
        return COPIES
    if event.name.startswith(_FUSED_BLOCK):
        return ELEMENTWISE
    if event.name.startswith('aten::'):
        return ELEMENTWISE
    return OTHER


def _names_outward(event: Any) -> Iterator[str]:
    while event is not None:
        yield event.name
        event = event.cpu_parent


def _cuts_pixels_up(event: Any) -> bool:
    shapes = event.input_shapes or []
    return event.name == 'aten::copy_' and any(len(shape) == 6 for shape in shapes if isinstance(shape, list | tuple))


def table(result: Mapping[str, Any]) -> str:
    lines = []
    for name, measured in result['networks'].items():
        total = measured['profiled_seconds']
        lines += [
            f'{name}, {result["width"]} features, in {measured["setting"]}: {measured["seconds"]:.4f} s a step '
            f'({total:.4f} s while recorded)',
            *(
                f'  {group:<60}{seconds:>10.4f} s{seconds / total:>8.1%}'
                for group, seconds in measured['groups'].items()
            ),
            '  costliest operators, by their own time:',
            *(
                f'    {each["name"][:56]:<58}{each["seconds"]:>10.4f} s{each["seconds"] / total:>8.1%}'
                f'{each["calls"]:>8.0f} calls'
                for each in measured['operators']
            ),
            '',
        ]
    return '\n'.join(lines).rstrip()
