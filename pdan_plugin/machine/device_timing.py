"""The time that a device takes for some work."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from pdan_plugin.machine.accelerators import device_module, synchronize

_ROUNDS = 3


def seconds_of(calls: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """The median seconds of each call on a device, in turn, after one call of each that is not counted.

    On CUDA and xpu the time is measured by events, so work of other threads on the host counts only as far as the
    device waits for it.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_ROUNDS + 1):
        for name, call in calls.items():
            seconds = _by_events(call, device) if device.type in ('cuda', 'xpu') else _by_clock(call, device)
            if number:
                times[name].append(seconds)
    return {name: statistics.median(each) for name, each in times.items()}


def _by_events(call: Callable[[], object], device: torch.device) -> float:
    module = device_module(device)
    with module.device(device):
        start, end = (module.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _by_clock(call: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start
