"""Training samples per second from stores of 720p frames, one thread: ours against the stock toolbox's data set."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from basicsr.data import build_dataset

from benchmarks.pictures import SCALE, large_frames
from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.frame_codec import encode_picture, picture_checksum
from pdan_plugin.data.frame_store_writer import FrameStoreWriter
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.machine.cores import one_thread
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.toolbox_fixes import stock_toolbox

STOCK, STOCK_ON_BMP, OURS_ON_PNG, OURS, OURS_DEGRADED = (
    'stock toolbox, PNG store, two pictures',
    'stock toolbox, BMP store, two pictures',
    'ours, PNG store, three pictures',
    'ours, BMP store, three pictures',
    'ours, BMP store, noise, JPEG and resampling',
)
# Samples per call: enough for a precise time, few enough for short rounds.
_SAMPLES = {STOCK: 12, STOCK_ON_BMP: 24, OURS_ON_PNG: 12, OURS: 256, OURS_DEGRADED: 256}
# Every degradation on every sample, the slowest case.
_DEGRADATION = {
    'motion_blur': [1, 5],
    'resize': ['area', 'bilinear'],
    'noise_sigma': [1, 10],
    'poisson': True,
    'jpeg_quality': [40, 95],
}
_STORES = ('train_sharp.lmdb', 'train_blur_bicubic_x4.lmdb', 'train_sharp_bicubic_x4.lmdb')


def benchmark_loader(rounds: int, frames: int = 24) -> dict[str, Any]:
    """Times samples of a 256 crop with every augmentation, as float32 tensors, from stores in memory.

    The stock data set reads the blurred and the sharp picture; ours also reads the small sharp one and changes
    brightness.

    Args:
        frames: Number of frames in each store.

    Returns:
        ``ratio`` (ours on BMP to stock on PNG, in samples per second), ``degradation_ms`` (milliseconds per sample for
        noise, JPEG and other resampling), ``samples_per_second`` by side, ``rounds``, ``frames``.

    Raises:
        RequestError: scikit-image is not installed.
    """
    folder = Path(tempfile.mkdtemp(prefix='benchmark_'))
    try:
        roots = {codec: write_stores(folder / codec, frames, codec) for codec in ('png', 'bmp')}
        sides = {
            STOCK: _reading(_stock(roots['png']), _SAMPLES[STOCK], stock_toolbox),
            STOCK_ON_BMP: _reading(_stock(roots['bmp']), _SAMPLES[STOCK_ON_BMP], stock_toolbox),
            OURS_ON_PNG: _reading(our_data_set(roots['png']), _SAMPLES[OURS_ON_PNG], nullcontext),
            OURS: _reading(our_data_set(roots['bmp']), _SAMPLES[OURS], nullcontext),
            OURS_DEGRADED: _reading(
                our_data_set({**roots['bmp'], 'degradation': _DEGRADATION}), _SAMPLES[OURS_DEGRADED], nullcontext
            ),
        }
        with one_thread():
            seconds = medians(times_in_turn(sides, rounds, warm_up=2, description='loader'))
    finally:
        shutil.rmtree(folder)
    rates = {name: _SAMPLES[name] / each for name, each in seconds.items()}
    return {
        'benchmark': 'loader',
        'ratio': rates[OURS] / rates[STOCK],
        'degradation_ms': 1000 * (1 / rates[OURS_DEGRADED] - 1 / rates[OURS]),
        'samples_per_second': rates,
        'rounds': rounds,
        'frames': frames,
    }


def write_stores(folder: Path, frames: int, codec: str, different: int = 24) -> dict[str, str]:
    """Three stores of ``frames`` 720p frames and their small partners; returns the data set's ``dataroot_`` options.

    Args:
        different: Number of different pictures; they are repeated under other keys and in other places of the file.
    """
    encoded: list[list[tuple[bytes, tuple[int, int, int], str]]] = []
    for sharp in large_frames(min(frames, different)):
        blurred = downsample_uint8(cv2.blur(sharp, (9, 5)), SCALE)
        pictures = (sharp, blurred, downsample_uint8(sharp, SCALE))
        encoded.append([(encode_picture(one, codec), one.shape, picture_checksum(one)) for one in pictures])
    for number, store in enumerate(_STORES):
        with FrameStoreWriter(folder / store, codec=codec) as writer:
            for frame in range(frames):
                writer.add_encoded(f'{frame // 100:03d}/{frame % 100:08d}', *encoded[frame % different][number])
            writer.finish()
    options = ('dataroot_gt', 'dataroot_lq', 'dataroot_lq_sharp')
    return {option: str(folder / store) for option, store in zip(options, _STORES, strict=True)}


def data_set_options(roots: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training data set with these stores, as in an option file."""
    return {
        'name': 'benchmark',
        'type': 'REDSPairedDataset',
        'phase': 'train',
        'scale': SCALE,
        'io_backend': {'type': 'lmdb'},
        'gt_size': 256,
        'use_hflip': True,
        'use_rot': True,
        'use_brightness': True,
        'manual_seed': 0,
        **roots,
    }


def our_data_set(roots: Mapping[str, Any]) -> REDSPairedDataset:
    return REDSPairedDataset(data_set_options(roots))


def _stock(roots: dict[str, str]) -> Any:
    """The toolbox's paired data set on the same stores; it has two pictures and no brightness."""
    options = data_set_options({name: root for name, root in roots.items() if name != 'dataroot_lq_sharp'})
    del options['use_brightness']
    with stock_toolbox():
        return build_dataset(options | {'type': 'PairedImageDataset'})


def _reading(dataset: Any, samples: int, context: Callable[[], AbstractContextManager]) -> Candidate:
    """Reads ``samples`` samples of random frames, different ones at every call."""
    draw = np.random.default_rng(0)
    epochs = iter(range(10**9))

    def read() -> None:
        epoch = next(epochs)
        for frame in draw.integers(len(dataset), size=samples):
            dataset[SampleIndex(int(frame), epoch, 0)]

    return Candidate(read, context)


def table(result: dict[str, Any]) -> str:
    rates = result['samples_per_second']
    lines = [
        f'{result["frames"]} frames of 1280x720 in memory, HR crops of 256x256, one thread, samples a second',
        *(f'  {name:<42}{rate:>9.0f}{rate / rates[STOCK]:>8.1f} times' for name, rate in rates.items()),
        f"A sample of ours comes {result['ratio']:.1f} times as fast as the stock toolbox's from its PNG store.",
        f'Noise, JPEG and resampling of an LR crop of 64x64: {result["degradation_ms"]:.2f} ms a sample.',
    ]
    return '\n'.join(lines)
