"""The host's time at the end of a training step: the average and the optimizer of a network with many parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from torch import nn

from benchmarks.full_network import full_pdan
from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.toolbox_fixes import stock_toolbox
from pdan_plugin.toolbox_fixes.patching import swapped
from pdan_plugin.training.fused_optimizers import step_unless
from pdan_plugin.training.parameter_average import ParameterAverage

TOOLBOX = 'as the toolbox does it'
BEFORE = 'before: average by names, fused Adam'
NOW = 'now'
_WIDTH = 16  # the time depends on the number of parameters, not on their size
_DECAY = 0.999
_KERNELS = (
    '_foreach_mul_', '_foreach_add_', '_foreach_sub_', '_foreach_lerp_', '_foreach_copy_', '_fused_adam_',
    '_fused_sgd_',
)  # fmt: skip


def benchmark_host_tail(
    rounds: int, device: torch.device, *, num_group: int = 10, num_block: int = 20
) -> dict[str, Any]:
    """Times the average (EMA) and Adam of PDAN in the paper's depth, in three forms.

    ``TOOLBOX`` is its `model_ema` with torch's default Adam. ``BEFORE`` finds all parameters by name at each step, with
    fused Adam. ``NOW`` is this project's average and fused Adam; both obey a flag, as on CUDA.

    Returns:
        ``ratio``: Python time before, divided by now; average and Adam together. ``python``: seconds of Python alone,
        by part and form: processor time of the thread, torch's kernels left out. ``whole``: the same with the
        kernels, on the device, by the clock.
        ``parameters``, ``rounds``.
    """
    network = _network(num_group, num_block).to(device)
    average = _network(num_group, num_block).to(device)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    flag = torch.zeros((), device=device)
    plain, fused = (torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused) for fused in (None, True))
    moving = ParameterAverage(network, average)
    model: Any = SimpleNamespace(net_g=network, net_g_ema=average, get_bare_model=lambda each: each)
    published = _published_average()
    forms: dict[str, dict[str, Callable[[], object]]] = {
        'average': {
            TOOLBOX: lambda: published(model, _DECAY),
            BEFORE: lambda: _average_by_name(network, average),
            NOW: lambda: moving.move(_DECAY, flag),
        },
        'Adam': {TOOLBOX: plain.step, BEFORE: fused.step, NOW: lambda: step_unless(flag, fused)},
    }
    for optimizer in (plain, fused):  # makes its state
        optimizer.step()
    result: dict[str, Any] = {
        'benchmark': 'host-tail', 'parameters': len(list(network.parameters())), 'rounds': rounds,
        'whole': {part: _time(each, rounds, device, part) for part, each in forms.items()},
    }  # fmt: skip
    python = {
        part: _time_python({name: each[name] for name in (BEFORE, NOW)}, rounds, part) for part, each in forms.items()
    }
    result['python'] = python
    result['ratio'] = sum(each[BEFORE] for each in python.values()) / sum(each[NOW] for each in python.values())
    return result


def _network(num_group: int, num_block: int) -> nn.Module:
    size = {'num_feat': _WIDTH, 'num_group': num_group, 'num_block': num_block, 'fuse_levels': num_group // 2}
    return build_network({**full_pdan(deblur_branch=True), **size}, 'network_g')


def _published_average() -> Callable[..., None]:
    with stock_toolbox():
        return BaseModel.model_ema


def _average_by_name(trained: nn.Module, average: nn.Module) -> None:
    parameters, buffers = dict(trained.named_parameters()), dict(trained.named_buffers())
    with torch.no_grad():
        names, averages = zip(*average.named_parameters(), strict=True)
        torch._foreach_mul_(averages, _DECAY)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
            averages, [parameters[name] for name in names], alpha=1 - _DECAY
        )
        for name, buffer in average.named_buffers():
            buffer.copy_(buffers[name])


@contextmanager
def _kernels_left_out() -> Iterator[None]:
    with swapped(torch, **{name: lambda *args, **kwargs: None for name in _KERNELS}):
        yield


def _time(forms: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, part: str) -> dict[str, float]:
    candidates = {name: Candidate(call) for name, call in forms.items()}
    return medians(times_in_turn(candidates, rounds, device=device, description=part))


def _time_python(forms: Mapping[str, Callable[[], object]], rounds: int, part: str) -> dict[str, float]:
    candidates = {name: Candidate(call, _kernels_left_out) for name, call in forms.items()}
    return medians(times_in_turn(candidates, rounds, description=part, clock=time.thread_time))


def table(result: Mapping[str, Any]) -> str:
    lines = [
        f'The end of a step for {result["parameters"]} parameters, milliseconds',
        f'  {"part and form":<40}{"Python alone":>14}{"with kernels":>14}',
    ]
    for part, whole in result['whole'].items():
        for name, seconds in whole.items():
            python = result['python'][part].get(name)
            words = '' if python is None else f'{python * 1e3:.2f}'
            lines.append(f'  {part + ", " + name:<40}{words:>14}{seconds * 1e3:>14.2f}')
    lines.append(f'\nPython time of both, before divided by now: {result["ratio"]:.1f}')
    return '\n'.join(lines)
