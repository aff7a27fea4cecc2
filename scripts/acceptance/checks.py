"""What a check is, and how the checks run: one after another, each result recorded at once, within a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.timing import release_memory

Status = Literal['passed', 'failed', 'error', 'left out']


@dataclass(frozen=True)
class Setting:
    """Where and how large the checks run.

    Attributes:
        device: The device that is tried.
        is_small: Whether to use sizes for a CPU and a test; figures of speed then mean little.
        folder: An empty folder for the checks' files.
    """

    device: torch.device
    is_small: bool
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """The result of a check: whether its criterion is met, what was measured in words, and the figures."""

    is_met: bool
    measured: str
    figures: dict[str, Any] = field(default_factory=dict[str, Any])


class NotRun(Exception):
    """A check cannot be made here; the message says why."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: Unique, for `--only` and the table.
        criterion: What must hold, in words.
        run: Raises, or returns an outcome. `NotRun` leaves it out.
        needs_cuda: Whether it is left out on other devices.
    """

    name: str
    criterion: str
    run: Callable[[Setting], Outcome]
    needs_cuda: bool = False


@dataclass(frozen=True)
class Result:
    """A check's status and figures as recorded; ``seconds`` is the time of the whole check."""

    name: str
    criterion: str
    status: Status
    measured: str
    seconds: float
    figures: dict[str, Any]


def run_checks(
    checks: Iterable[Check], setting: Setting, seconds: float, on_result: Callable[[Result], None]
) -> list[Result]:
    """Runs the checks in order. An exception is that check's result, and the next check runs.

    Args:
        seconds: Time limit: no check begins later than this.
        on_result: Called after each check.
    """
    results: list[Result] = []
    end = time.monotonic() + seconds
    for check in checks:
        result = _run(check, setting, time_is_up=time.monotonic() > end)
        results.append(result)
        on_result(result)
    return results


def _run(check: Check, setting: Setting, *, time_is_up: bool) -> Result:
    if check.needs_cuda and setting.device.type != 'cuda':
        return Result(check.name, check.criterion, 'left out', 'needs a CUDA device', 0.0, {})
    if time_is_up:
        return Result(check.name, check.criterion, 'left out', 'the time limit was reached', 0.0, {})
    started = time.monotonic()
    try:
        torch.manual_seed(0)
        outcome = check.run(setting)
        status: Status = 'passed' if outcome.is_met else 'failed'
        measured, figures = outcome.measured, outcome.figures
    except NotRun as reason:
        status, measured, figures = 'left out', str(reason), {}
    except Exception as error:  # any failure is this check's result
        status, figures = 'error', {}
        text = str(error).strip()
        measured = f'{type(error).__name__}: {text.splitlines()[0] if text else "no message"}'
    release_memory(setting.device)
    return Result(check.name, check.criterion, status, measured, round(time.monotonic() - started, 2), figures)
