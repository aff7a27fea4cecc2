"""HPEM against L1, and against HPEM written with a full sort."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.losses import HPEMLoss


def benchmark_loss(rounds: int) -> dict[str, Any]:
    """Forward and backward on (8, 3, 256, 256) float32.

    Returns:
        ``ratio`` (how many times as fast as with a sort), ``cost_in_l1``, ``seconds`` by name, ``rounds``.
    """
    pred = torch.rand(8, 3, 256, 256, requires_grad=True)
    target = torch.rand(8, 3, 256, 256)
    hpem = HPEMLoss()

    def by_sorting() -> Tensor:
        error = (pred - target).abs()
        ranking = error.detach().sum(dim=1).flatten(1).argsort(dim=1, descending=True)
        hardest = ranking[:, : ranking.shape[1] // 2]
        mask = torch.zeros(ranking.shape).scatter_(1, hardest, 1.0).view(8, 1, 256, 256)
        return error.mean() + 2 * (error * mask).mean()

    def candidate(loss: Callable[[], Tensor]) -> Candidate:
        def step() -> None:
            pred.grad = None
            loss().backward()

        return Candidate(step)

    seconds = medians(
        times_in_turn(
            {
                'L1': candidate(lambda: functional.l1_loss(pred, target)),
                'HPEM': candidate(lambda: hpem(pred, target)),
                'HPEM by sorting': candidate(by_sorting),
            },
            rounds,
            description='loss',
        )
    )
    return {
        'benchmark': 'loss',
        'ratio': seconds['HPEM by sorting'] / seconds['HPEM'],
        'cost_in_l1': seconds['HPEM'] / seconds['L1'],
        'seconds': seconds,
        'rounds': rounds,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f'{name:<20}{seconds * 1e3:>10.2f} ms' for name, seconds in result['seconds'].items()]
    lines.append(
        f'HPEM: {result["ratio"]:.2f} times as fast as with a sort, {result["cost_in_l1"]:.2f} times the cost of L1'
    )
    return '\n'.join(lines)
