"""The loader over a long time and from a store that is not in memory."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from basicsr.data import build_dataloader
from tqdm import tqdm

from benchmarks.loader import data_set_options, our_data_set, write_stores
from pdan_plugin.data.frame_store_writer import bytes_on_disk
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.memory import process_memory

_BATCH = 16
_LOOKS = 20  # number of memory measurements
_FRAME_BYTES = sum(bytes_on_disk(size) for size in (1280 * 720 * 3 + 54, *2 * (320 * 180 * 3 + 54,)))
# Bytes a sample needs: the rows of its crop, over the frames' whole width, from one large and two small pictures.
_CROP_BYTES = (256 * 1280 * 3, 64 * 320 * 3, 64 * 320 * 3)


def benchmark_endurance(samples: int, workers: Sequence[int], frames: int = 240) -> dict[str, Any]:
    """Reads ``samples`` through the trainer's loader, batches of 16, for each number of workers.

    Returns:
        ``runs``: for each number of workers ``workers``, ``samples_per_second`` and ``memory``: MB of this process and
        its workers, without pages of files, at evenly spaced moments.

    Raises:
        RequestError: The system is not Linux: memory is read from /proc.
    """
    _needs_linux()
    folder = Path(tempfile.mkdtemp(prefix='benchmark_'))
    try:
        options = data_set_options(write_stores(folder, frames, 'bmp'))
        runs = [_read_long(options, samples, number) for number in workers]
    finally:
        shutil.rmtree(folder)
    return {'benchmark': 'loader', 'samples': samples, 'frames': frames, 'runs': runs}


def _read_long(options: dict[str, Any], samples: int, workers: int) -> dict[str, Any]:
    loader = _loader(options, workers, samples)
    memory = []
    batches = samples // _BATCH
    looks = set(np.linspace(batches // _LOOKS, batches - 1, _LOOKS, dtype=int).tolist())
    start = time.perf_counter()
    for number, _ in enumerate(tqdm(loader, total=batches, desc=f'{workers} workers', disable=None, leave=False)):
        if number in looks:
            memory.append(round(_own_megabytes(), 1))
        if number + 1 == batches:
            break
    seconds = time.perf_counter() - start
    return {'workers': workers, 'samples_per_second': batches * _BATCH / seconds, 'memory': memory}


def benchmark_cold(folder: Path, gigabytes: float, samples: int, workers: Sequence[int]) -> dict[str, Any]:
    """Samples per second from stores that are not in memory, against plain reads of the same amounts.

    The stores are made in ``folder`` and removed at the end. Before each run they are dropped from the system's cache.
    The plain reads take a sample's rows from random places of the file and bypass the cache, with as many readers as
    workers, at least one.

    Returns:
        ``ratio`` (the slowest of loader to disk), ``gigabytes``, ``samples``, and ``runs``: for each number of workers
        ``samples_per_second`` of the loader and of the ``disk``.

    Raises:
        RequestError: Too little space, fewer frames than samples, or not Linux.
    """
    _needs_linux()
    frames = int(gigabytes * 1e9 / _FRAME_BYTES)
    free = shutil.disk_usage(folder).free
    if frames * _FRAME_BYTES > free:
        raise RequestError(f'{folder}: stores of {gigabytes:g} GB are requested, but only {free / 1e9:.1f} GB are free')
    if frames < samples:
        raise RequestError(f'{samples} samples need as many frames; {gigabytes:g} GB hold {frames} of 720p')
    place = Path(tempfile.mkdtemp(prefix='benchmark_', dir=folder))
    try:
        options = data_set_options(write_stores(place, frames, 'bmp'))
        files = [Path(options[name]) / 'data.mdb' for name in ('dataroot_gt', 'dataroot_lq', 'dataroot_lq_sharp')]
        runs = []
        for number in workers:
            disk = _read_bare(files, samples, max(number, 1))
            for file in files:
                _forget(file)
            loader = _loader(options, number, frames)
            start = time.perf_counter()
            for batch, _ in enumerate(tqdm(loader, total=samples // _BATCH, desc=f'{number} workers', disable=None)):
                if batch + 1 == samples // _BATCH:
                    break
            ours = samples // _BATCH * _BATCH / (time.perf_counter() - start)
            runs.append({'workers': number, 'samples_per_second': ours, 'disk': disk})
            del loader
            gc.collect()  # frees the memory map too: mapped pages cannot be dropped from the cache
    finally:
        shutil.rmtree(place)
    return {
        'benchmark': 'loader',
        'ratio': min(run['samples_per_second'] / run['disk'] for run in runs),
        'gigabytes': gigabytes,
        'samples': samples,
        'runs': runs,
    }


def _loader(options: dict[str, Any], workers: int, samples: int) -> Any:
    """The loader as the trainer builds it, long enough for ``samples`` samples."""
    dataset = our_data_set(options)
    sampler = dataset.training_sampler(1, 0, max(1, -(-samples // len(dataset))))
    options = options | {'batch_size_per_gpu': _BATCH, 'num_worker_per_gpu': workers}
    return build_dataloader(dataset, options, num_gpu=1, dist=False, sampler=sampler, seed=0)


def _read_bare(files: Sequence[Path], samples: int, readers: int) -> float:
    """Samples per second when only their bytes are read."""
    draw = np.random.default_rng(1)
    shares = [samples // readers] * readers
    seeds = draw.integers(2**32, size=readers).tolist()

    def read(share: int, seed: int) -> None:
        places = np.random.default_rng(seed)
        opened = [os.open(file, os.O_RDONLY | os.O_DIRECT) for file in files]
        buffers = [mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE) for size in _CROP_BYTES]
        lengths = [file.stat().st_size for file in files]
        for _ in range(share):
            for descriptor, buffer, length in zip(opened, buffers, lengths, strict=True):
                page = int(places.integers((length - len(buffer)) // mmap.PAGESIZE))
                os.preadv(descriptor, [buffer], page * mmap.PAGESIZE)
        for descriptor in opened:
            os.close(descriptor)

    start = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(read, shares, seeds))
    return sum(shares) / (time.perf_counter() - start)


def _forget(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _own_megabytes() -> float:
    """Memory of this process and its workers, without pages of files."""
    processes = (os.getpid(), *(child.pid for child in multiprocessing.active_children()))
    return sum(process_memory('RssAnon', process) or 0 for process in processes if process is not None) / 2**20


def _needs_linux() -> None:
    if not hasattr(os, 'O_DIRECT') or not Path('/proc/self/status').exists():
        raise RequestError('--samples and --cold need Linux: they read /proc and bypass the file cache')


def table(result: dict[str, Any]) -> str:
    if 'gigabytes' in result:
        lines = [f'{result["gigabytes"]:g} GB of 720p frames, nothing of them in memory; {result["samples"]} samples']
        lines += [
            f'  {run["workers"]} workers: {run["samples_per_second"]:.0f} samples a second; '
            f'bare reading, {max(run["workers"], 1)} at once: {run["disk"]:.0f}'
            for run in result['runs']
        ]
        return '\n'.join(lines)
    lines = [f"{result['samples']} samples through the trainer's loader, batches of {_BATCH}"]
    for run in result['runs']:
        memory = run['memory']
        lines.append(
            f'  {run["workers"]} workers: {run["samples_per_second"]:.0f} samples a second; memory of its own '
            f'{memory[0]:.0f} MB early, {memory[len(memory) // 2]:.0f} half way, {memory[-1]:.0f} at the end'
        )
    return '\n'.join(lines)
