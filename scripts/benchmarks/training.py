"""Training steps per second: the toolbox's SRModel against RestorationModel, on the same network, weights and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.contenders import SETTINGS, measured_steps, ours, pdan, rcan, stock
from benchmarks.full_network import measure_full_network
from benchmarks.full_network import table as full_network_table
from benchmarks.pictures import LR_SIZE, training_batch
from benchmarks.timing import release_memory
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
        release_memory(device)
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
        :func:`~benchmarks.contenders.measured_steps` by setting, ``ratios`` (to stock), ``best_setting``, ``ratio`` (of
        that one); ``pdan``: the same of RCAN, PDAN and PDAN with its branch in that setting, and ``to_rcan`` (PDAN's
        time divided by RCAN's).
    """
    batches = [training_batch(batch_size, seed=0, number=number) for number in range(8)]
    sides = {STOCK: stock(rcan(width), device)}
    sides.update((setting, ours(rcan(width), setting, device)) for setting in settings)
    compared = measured_steps(sides, batches, rounds, device, f'RCAN, {width} features')
    compared['ratios'] = {
        name: compared['seconds'][STOCK] / seconds for name, seconds in compared['seconds'].items() if name != STOCK
    }
    best = max(settings, key=lambda name: compared['ratios'][name])
    sides = {
        'RCAN': sides[best],
        'PDAN': ours(pdan(width), best, device),
        _WITH_BRANCH: ours(pdan(width, deblur_branch=True), best, device),
    }
    release_memory(device)
    of_pdan = measured_steps(sides, batches, _PDAN_ROUNDS * rounds, device, f'PDAN, {width} features')
    of_pdan['to_rcan'] = of_pdan['seconds']['PDAN'] / of_pdan['seconds']['RCAN']
    return {**compared, 'best_setting': best, 'ratio': compared['ratios'][best], 'pdan': of_pdan}


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
