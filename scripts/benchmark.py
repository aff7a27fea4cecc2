#!/usr/bin/env python
"""Times this project against the plain way of doing the same, both in one run on this machine.

    python scripts/benchmark.py loss [--json]

``ratio`` says how many times faster ours is. The machine may be busy with other things: both sides are timed in turn,
round after round, and medians are compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pdan_plugin.losses import HPEMLoss


def median_times(candidates: dict[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> dict[str, float]:
    """Median seconds a call of each candidate, called in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(warm_up + rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            if round_number >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def benchmark_loss(rounds: int) -> dict[str, Any]:
    """HPEM, forward and backward on (8, 3, 256, 256), against L1 and against HPEM written with a full sort."""
    pred = torch.rand(8, 3, 256, 256, requires_grad=True)
    target = torch.rand(8, 3, 256, 256)
    hpem = HPEMLoss()

    def by_sorting() -> Tensor:
        error = (pred - target).abs()
        ranking = error.detach().sum(dim=1).flatten(1).argsort(dim=1, descending=True)
        hardest = ranking[:, : ranking.shape[1] // 2]
        mask = torch.zeros(ranking.shape).scatter_(1, hardest, 1.0).view(8, 1, 256, 256)
        return error.mean() + 2 * (error * mask).mean()

    def step(loss: Callable[[], Tensor]) -> None:
        pred.grad = None
        loss().backward()

    seconds = median_times(
        {
            'L1': lambda: step(lambda: functional.l1_loss(pred, target)),
            'HPEM': lambda: step(lambda: hpem(pred, target)),
            'HPEM by sorting': lambda: step(by_sorting),
        },
        rounds,
    )
    return {
        'seconds': seconds,
        'ratio': seconds['HPEM by sorting'] / seconds['HPEM'],
        'cost_in_l1': seconds['HPEM'] / seconds['L1'],
    }


BENCHMARKS = {'loss': benchmark_loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', choices=sorted(BENCHMARKS))
    parser.add_argument('--rounds', type=int, default=30, help='timed rounds (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    arguments = parser.parse_args()

    result = BENCHMARKS[arguments.name](arguments.rounds)
    result['machine'] = {
        'processor': platform.processor() or platform.machine(),
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    for name, seconds in result['seconds'].items():
        print(f'{name:<20}{seconds * 1e3:>10.2f} ms')
    print(
        f'{result["ratio"]:.2f} times as fast as with a sort, {result["cost_in_l1"]:.2f} times the cost of L1 '
        f'({result["machine"]["threads"]} threads)'
    )


if __name__ == '__main__':
    main()
