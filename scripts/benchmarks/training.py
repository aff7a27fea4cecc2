"""Training steps per second: the toolbox's SRModel against RestorationModel, on the same network, weights and data."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.contenders import SETTINGS, Contender, ours, pdan, rcan, stock
from benchmarks.full_network import measure_full_network
from benchmarks.full_network import table as full_network_table
from benchmarks.pictures import LR_SIZE, training_batch
from benchmarks.timing import medians, memory_of, times_in_turn
from pdan_plugin.machine.sizes import memory_in_words

BATCH = 4
STOCK = 'stock toolbox, fp32'
_WITH_BRANCH = 'PDAN with deblurring branch'
_PDAN_ROUNDS = 3  # times as many rounds: its steps are short, and differences of a few percent matter


def benchmark_training(
    widths: Sequence[int], rounds: int, device: torch.device, settings: Sequence[str] = SETTINGS
) -> dict[str, Any]:
    """RCAN (2 groups of 4 blocks) at some widths, in batches of 4 of 64x64; on CUDA the full PDAN too.

    Returns:
        ``ratio``: samples per second of the best setting relative to the stock toolbox, at the width with the smallest
        gain. ``pdan_to_rcan``: time of PDAN's step relative to RCAN's, both in the width's best setting, at the width
        with the largest ratio. ``widths``: everything by width, see :func:`compare_at`. ``full_network``: see
        :func:`~benchmarks.full_network.measure_full_network`; None without CUDA. ``rounds``, ``batch``
        (shape of the LR batch).
    """
    if device.type == 'cuda':
        torch.backends.cudnn.benchmark = True  # as the toolbox's trainer sets it
    by_width = {}
    for width in widths:
        by_width[str(width)] = compare_at(width, rounds, device, settings)
        # compiled code keeps its networks alive and slows down later calls
        torch.compiler.reset()
        _free(device)
    return {
        'benchmark': 'train',
        'ratio': min(each['ratio'] for each in by_width.values()),
        'pdan_to_rcan': max(each['pdan']['to_rcan'] for each in by_width.values()),
        'widths': by_width,
        'full_network': measure_full_network(device, rounds) if device.type == 'cuda' else None,
        'batch': [BATCH, 3, LR_SIZE, LR_SIZE],
        'rounds': rounds,
    }


def compare_at(
    width: int, rounds: int, device: torch.device, settings: Sequence[str] = SETTINGS, batch_size: int = BATCH
) -> dict[str, Any]:
    """Times RCAN of a width, stock and then ours in each setting; then PDAN against RCAN in the fastest setting.

    Returns:
        ``seconds``, ``samples_per_second``, ``ratios`` (to stock) and ``step_memory`` (bytes of tensors at a step's
        peak, beyond weights, averages and the optimizer's state) by setting, ``times`` (all of them), ``best_setting``,
        ``ratio`` (of that one); ``pdan``: the same of RCAN, PDAN and PDAN with its branch in that setting, and
        ``to_rcan`` (PDAN's time divided by RCAN's).
    """
    batches = [training_batch(batch_size, seed=0, number=number) for number in range(8)]
    sides = {STOCK: stock(rcan(width), device)}
    sides.update((setting, ours(rcan(width), setting, device)) for setting in settings)
    compared = _measure(sides, batches, rounds, device, f'RCAN, {width} features')
    compared['ratios'] = {
        name: compared['seconds'][STOCK] / seconds for name, seconds in compared['seconds'].items() if name != STOCK
    }
    best = max(settings, key=lambda name: compared['ratios'][name])
    sides = {
        'RCAN': sides[best],
        'PDAN': ours(pdan(width), best, device),
        _WITH_BRANCH: ours(pdan(width, deblur_branch=True), best, device),
    }
    _free(device)
    of_pdan = _measure(sides, batches, _PDAN_ROUNDS * rounds, device, f'PDAN, {width} features')
    of_pdan['to_rcan'] = of_pdan['seconds']['PDAN'] / of_pdan['seconds']['RCAN']
    return {**compared, 'best_setting': best, 'ratio': compared['ratios'][best], 'pdan': of_pdan}


def _measure(
    sides: Mapping[str, Contender],
    batches: list[dict[str, Any]],
    rounds: int,
    device: torch.device,
    description: str,
) -> dict[str, Any]:
    candidates = {name: side.candidate(batches) for name, side in sides.items()}
    times = times_in_turn(candidates, rounds, device=device, description=description)
    seconds = medians(times)
    memory = {}
    for name, side in sides.items():
        side.model.optimizer_g.zero_grad()  # so that the gradients count as the step's memory
        with side.context():
            memory[name] = memory_of(candidates[name].call, device)
    return {
        'seconds': seconds,
        'samples_per_second': {name: len(batches[0]['lq']) / each for name, each in seconds.items()},
        'step_memory': memory,
        'times': times,
    }


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()


def table(result: Mapping[str, Any]) -> str:
    lines = []
    for width, each in result['widths'].items():
        lines += [
            f'RCAN, 2 groups of 4 blocks, {width} features, batch of {" x ".join(map(str, result["batch"]))}',
            _head('setting', 'to stock'),
            *_rows(each, {STOCK: 1.0, **each['ratios']}),
            '',
            f'PDAN of that size, in {each["best_setting"]}',
            _head('network', 'time to RCAN'),
            *_rows(each['pdan'], {name: each['pdan']['seconds'][name] / each['pdan']['seconds']['RCAN']
                                  for name in each['pdan']['seconds']}),
            '',
        ]  # fmt: skip
    lines += [full_network_table(result['full_network']), '']
    lines.append(
        f'Trains at {result["ratio"]:.2f} times the samples a second of the stock toolbox; '
        f"PDAN's step takes {result['pdan_to_rcan']:.2f} times RCAN's (each at its worst width)."
    )
    return '\n'.join(lines)


def _head(name: str, ratio: str) -> str:
    return f'  {name:<32}{"s/step":>10}{"samples/s":>12}{ratio:>14}{"step memory":>14}'


def _rows(measured: Mapping[str, Any], ratios: Mapping[str, float]) -> list[str]:
    return [
        f'  {name:<32}{seconds:>10.4f}{measured["samples_per_second"][name]:>12.2f}{ratios[name]:>14.2f}'
        f'{memory_in_words(measured["step_memory"][name]):>14}'
        for name, seconds in measured['seconds'].items()
    ]
