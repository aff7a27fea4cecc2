"""Times candidates against each other on a machine that may be busy, and describes the machine."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accelerators import free_cached_memory, synchronize
from pdan_plugin.machine.cores import processor_name, usable_cores
from pdan_plugin.machine.precision import bf16_instructions

CPU = torch.device('cpu')


@dataclass(frozen=True)
class Candidate:
    """Something to be timed.

    Attributes:
        call: The timed function.
        context: The context of the calls; entering and leaving it is not timed.
    """

    call: Callable[[], object]
    context: Callable[[], AbstractContextManager] = nullcontext


def times_in_turn(
    candidates: Mapping[str, Candidate],
    rounds: int,
    warm_up: int = 3,
    *,
    device: torch.device = CPU,
    description: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of every call. Each round calls each candidate once, so that all of them see the same disturbances.

    Args:
        candidates: By name, in the order of the calls.
        rounds: Number of timed calls of each candidate.
        warm_up: Number of rounds before, not timed, for compilation and first allocations.
        device: The device of the calls; it is synchronised before the clock is read.
        description: Text of the progress bar, which is shown only on a terminal.
        clock: Seconds; `time.thread_time` for work of one thread on a machine that others use.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    total = (warm_up + rounds) * len(candidates)
    with tqdm(total=total, desc=description, unit='call', disable=None, leave=False) as bar:
        for round_number in range(warm_up + rounds):
            for name, candidate in candidates.items():
                with candidate.context():
                    synchronize(device)
                    start = clock()
                    candidate.call()
                    synchronize(device)
                    seconds = clock() - start
                if round_number >= warm_up:
                    times[name].append(seconds)
                bar.update()
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(each) for name, each in times.items()}


def release_memory(device: torch.device) -> None:
    """Frees what is no longer used, also what torch keeps for later."""
    gc.collect()
    free_cached_memory(device)


def memory_of(call: Callable[[], object], device: torch.device) -> int:
    """Peak bytes of the tensors that a call allocates.

    Allocations inside libraries (oneDNN's reordered weights, cuDNN's plans) are not counted. cuDNN's workspace is
    counted, because torch allocates it.
    """
    if device.type == 'cuda':
        synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    kineto: Any = profiler.profiler
    changes = [event for event in kineto.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak


def chosen_device(word: str) -> torch.device:
    """The device for 'auto' (CUDA if there is a device), 'cpu' or 'cuda'.

    Raises:
        RequestError: 'cuda' on a machine without.
    """
    if word == 'cuda' and not torch.cuda.is_available():
        raise RequestError('--device cuda: torch sees no CUDA device here; use --device cpu.')
    if word == 'auto':
        word = 'cuda' if torch.cuda.is_available() else 'cpu'
    return torch.device(word)


def machine(device: torch.device, *, processes: int = 1, threads: int | None = None) -> dict[str, Any]:
    """Describes the machine and the versions that were measured.

    ``load`` is the system's one-minute load average before the benchmark; near 0 on a quiet machine.
    """
    return {
        'processor': processor_name(),
        'cores': usable_cores(),
        'bf16_instructions': bf16_instructions(),
        'card': torch.cuda.get_device_name(device) if device.type == 'cuda' else None,
        'processes': processes,
        'threads': torch.get_num_threads() if threads is None else threads,
        'load': round(os.getloadavg()[0], 2) if hasattr(os, 'getloadavg') else None,
        'torch': str(torch.__version__),
        'basicsr': version('basicsr'),
        'python': platform.python_version(),
    }


def header(described: Mapping[str, Any]) -> str:
    """The machine in two lines."""
    instructions = ', '.join(described['bf16_instructions']) or 'none'
    hardware = f'{described["cores"]} cores of {described["processor"]} (bfloat16 instructions: {instructions})'
    if described['card']:
        hardware = f'{described["card"]}; {hardware}'
    threads = f'{described["threads"]} thread(s)'
    if described['processes'] > 1:
        threads = f'up to {described["processes"]} processes of {threads}'
    load = '' if described['load'] is None else f'; load before: {described["load"]}'
    return (
        f'Machine: {hardware}\n'
        f'         {threads}; torch {described["torch"]}, BasicSR {described["basicsr"]}, '
        f'Python {described["python"]}{load}'
    )
