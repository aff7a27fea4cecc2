"""Whole pieces of work on the device: memory that runs out, folders and videos, an overflow, a stop and its resume."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import Tensor
from torch.utils._pytree import tree_leaves

from acceptance.checks import Check, Outcome, Setting
from acceptance.speed import timed
from benchmarks.contenders import ours, pdan
from benchmarks.full_network import full_pdan
from benchmarks.pictures import large_frames, training_batch, write_validation_pictures
from benchmarks.timing import memory_of
from pdan_plugin.errors import RequestError
from pdan_plugin.media.pyav import import_av
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.restoration.inference_network import inference_network
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.training.checkpoints import read_state
from pdan_plugin.weights.packaged_weights import packaged_weights
from pdan_plugin.weights.trained_network import load_trained_network

_PACKAGE_FOLDER = Path(__file__).parents[2]


def checks() -> list[Check]:
    return [
        Check('out of memory', 'whole pictures do not fit: tiles do, at most one grey level from a run with memory',
              _out_of_memory, needs_cuda=True),
        Check('tile memory', 'the estimate of `--tile auto`: at least the peak, at most 1.5 times it', _tile_memory),
        Check('overflow', 'fp16: steps that overflow change no weight, later steps are taken', _overflow),
        Check('resume', 'stopped at half: random state equal, moments within 1% of a run without stop', _resume),
        Check('one rank', '`--nproc 1` (nccl on CUDA): exit status 0, no process is left', _one_rank),
        Check('folder', '`basicsr restore FOLDER`: exit status 0, all results there', _folder),
        Check('video', '`basicsr restore VIDEO`: exit status 0, all frames there', _video),
    ]  # fmt: skip


def _out_of_memory(setting: Setting) -> Outcome:
    network = load_trained_network(packaged_weights()['pdan_small'])
    *_, frame = large_frames(1)
    expected = Restorer(network, setting.device, tile=256).restore_picture(frame)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(setting.device).total_memory
    # 1.5 GiB beyond what is held: the whole picture needs over 4
    allowed = torch.cuda.memory_reserved(setting.device) + 1.5 * 2**30
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), setting.device)
    try:
        restorer = Restorer(network, setting.device)
        got = restorer.restore_picture(frame)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
    levels = int(abs(got.astype(int) - expected.astype(int)).max())
    ran_out = any('memory' in note for note in restorer.notes)
    words = f'{levels} grey level(s); {restorer.notes[-1] if ran_out else "memory did not run out"}'
    return Outcome(ran_out and levels <= 1, words, {'grey_levels': levels, 'notes': restorer.notes})


def _tile_memory(setting: Setting) -> Outcome:
    networks = {'pdan_small': load_trained_network(packaged_weights()['pdan_small'])}
    if not setting.is_small:
        networks['full PDAN'] = build_network(full_pdan(), 'network_g')
    sizes = ((48, 64),) if setting.is_small else ((180, 320), (720, 1280))
    shares: dict[str, float] = {}
    for name, network in networks.items():
        for height, width in sizes:
            restorer = Restorer(network, setting.device, precision=_precision(setting), tile='auto')
            picture = np.zeros((height, width, 3), np.uint8)
            restorer.restore_picture(picture)
            peak = memory_of(partial(restorer.restore_picture, picture), setting.device)
            shares[f'{name}, {width}x{height}'] = restorer.memory_needed(height, width) / peak
            del restorer
    words = ', '.join(f'{name} {share:.2f} times' for name, share in shares.items())
    return Outcome(setting.is_small or all(1 <= share <= 1.5 for share in shares.values()), words, shares)


def _overflow(setting: Setting) -> Outcome:
    side = ours(pdan(16), 'fp32', setting.device)
    model = side.model
    model.precision = 'fp16'
    # any gradient times 2**40 is outside of float16's range
    model.scaler = torch.amp.GradScaler(setting.device.type, init_scale=2.0**40)
    batch = training_batch(2, seed=0, number=0)
    batch.update({key: batch[key][..., :side_, :side_] for key, side_ in (('lq', 24), ('lq_sharp', 24), ('gt', 96))})

    def weights() -> list[Tensor]:
        return [parameter.detach().clone() for parameter in model.net_g.parameters()]

    skipped_well, taken, steps = True, 0, 60
    model.guard.limit = steps
    for iteration in range(1, steps + 1):
        before, skipped = weights(), model.guard.skipped
        side.step(iteration, batch)
        model.settle_last_step()
        unchanged = all(torch.equal(one, other) for one, other in zip(before, weights(), strict=True))
        if model.guard.skipped > skipped:
            skipped_well = skipped_well and unchanged
        else:
            taken += not unchanged
        if taken == 5:
            break
    finite = all(bool(torch.isfinite(each).all()) for each in weights())
    scale = model.scaler.get_scale()
    words = f'{model.guard.skipped} steps skipped, then {taken} taken at a loss scale of {scale:g}'
    return Outcome(
        skipped_well and model.guard.skipped > 0 and taken == 5 and finite,
        words,
        {'skipped': model.guard.skipped, 'taken': taken, 'scale': scale},
    )


def _train_options(setting: Setting, total: int) -> dict[str, Any]:
    data = {'type': 'PairedImageDataset', 'dataroot_gt': 'pictures/gt', 'dataroot_lq': 'pictures/lq',
            'io_backend': {'type': 'disk'}}  # fmt: skip
    return {
        'name': 'acceptance',
        'model_type': 'RestorationModel',
        'scale': 4,
        'num_gpu': 1 if setting.device.type == 'cuda' else 0,
        'manual_seed': 0,
        'datasets': {
            'train': {**data, 'name': 'train', 'gt_size': 64, 'use_hflip': True, 'use_rot': True,
                      'num_worker_per_gpu': 1, 'batch_size_per_gpu': 2},
        },
        'network_g': pdan(16),
        'path': {},
        'train': {
            'precision': 'bf16',
            'channels_last': True,
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1e-4},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [1000]},
            'total_iter': total,
            'pixel_opt': {'type': 'HPEMLoss'},
        },
        'logger': {'print_freq': 5, 'save_checkpoint_freq': 6, 'use_tb_logger': False},
        'dist_params': {'backend': _backend(setting)},
    }  # fmt: skip


def _train(setting: Setting, folder: Path, total: int, *further: str) -> str:
    """Trains in ``folder``; returns what was printed.

    Raises:
        RequestError: The exit status is not 0; the message has the last lines.
    """
    if not (folder / 'pictures').is_dir():
        write_validation_pictures(folder / 'pictures', 4)
    (folder / 'acceptance.yml').write_text(yaml.safe_dump(_train_options(setting, total)))
    return _basicsr(folder, 'train', '-opt', 'acceptance.yml', *further)


def _basicsr(folder: Path, *words: str) -> str:
    path = os.pathsep.join(filter(None, [str(_PACKAGE_FOLDER), os.environ.get('PYTHONPATH')]))
    done = subprocess.run(
        [sys.executable, '-m', 'pdan_plugin', *words],
        cwd=folder, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': path}, timeout=240,
    )  # fmt: skip
    if done.returncode:
        last = ' | '.join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise RequestError(f'basicsr {" ".join(words)}: exit status {done.returncode}: {last}')
    return done.stdout + done.stderr


def _resume(setting: Setting) -> Outcome:
    whole, stopped = setting.folder / 'whole', setting.folder / 'stopped'
    for folder in (whole, stopped):
        folder.mkdir()
    _train(setting, whole, 12)
    _train(setting, stopped, 6)
    resumed = _train(setting, stopped, 12, '--auto_resume')
    states = [
        read_state(str(folder / 'experiments/acceptance/training_states/12.state')) for folder in (whole, stopped)
    ]
    random = [tree_leaves(state['random']) for state in states]
    equal = all(
        torch.equal(one, other) if isinstance(one, Tensor) else one == other
        for one, other in zip(*random, strict=True)
    )  # fmt: skip
    moments = [
        torch.cat([each.flatten().double() for each in tree_leaves(state['optimizers']) if torch.is_tensor(each)])
        for state in states
    ]
    unlike = float((moments[0] - moments[1]).norm() / moments[0].norm())
    is_exact = bool(torch.equal(*moments))
    words = (
        f'random state {"equal" if equal else "differs"}, moments {"equal" if is_exact else f"differ by {unlike:.2g}"}'
    )
    return Outcome(
        equal and unlike <= (0.01 if setting.device.type == 'cuda' else 0) and 'Resuming' in resumed,
        words,
        {'random_state_is_equal': equal, 'moments_relative': unlike},
    )


def _one_rank(setting: Setting) -> Outcome:
    folder = setting.folder / 'one_rank'
    folder.mkdir()
    _train(setting, folder, 4, '--nproc', '1')
    left = sum(1 for _ in _processes_in(folder))
    has_weights = (folder / 'experiments/acceptance/models/net_g_latest.pth').is_file()
    words = f'weights {"there" if has_weights else "missing"}, {_backend(setting)}, {left} processes left'
    return Outcome(has_weights and left == 0, words)


def _backend(setting: Setting) -> str:
    return 'nccl' if setting.device.type == 'cuda' else 'gloo'


def _processes_in(folder: Path) -> Iterator[Path]:
    """The processes whose working folder this is."""
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if (process / 'cwd').resolve() == folder.resolve():
                yield process
        except OSError:
            continue  # it ended


def _network_seconds(setting: Setting, small: np.ndarray) -> float:
    """Seconds of the packaged network alone for a picture of this size, in the precision of the command below."""
    restore = inference_network(
        load_trained_network(packaged_weights()['pdan_small']), setting.device, precision=_precision(setting)
    )
    batch = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float().to(setting.device) / 255
    return timed(setting, lambda: restore(batch))


def _precision(setting: Setting) -> str:
    return 'bf16' if setting.device.type == 'cuda' else 'fp32'


def _sizes(setting: Setting) -> tuple[list[np.ndarray], int]:
    """Small pictures (h, w, 3) uint8 RGB, and how many of them the short run has."""
    count, side = (4, 64) if setting.is_small else (48, 320)
    frames = [downsample_uint8(frame, 4)[:side, :side] for frame in large_frames(min(count, 8))]
    return [frames[number % len(frames)] for number in range(count)], count // 4


def _restored(setting: Setting, folder: Path, source: str, target: str) -> float:
    started = time.monotonic()
    _basicsr(folder, 'restore', source, '-o', target, '-w', 'pdan_small', '--device', setting.device.type,
             '--precision', _precision(setting))  # fmt: skip
    return time.monotonic() - started


def _folder(setting: Setting) -> Outcome:
    folder = setting.folder / 'folder'
    pictures, few = _sizes(setting)
    for name, count in (('few', few), ('all', len(pictures))):
        (folder / name).mkdir(parents=True)
        for number, picture in enumerate(pictures[:count]):
            cv2.imwrite(str(folder / name / f'{number:03d}.png'), picture[:, :, ::-1])
    seconds = {name: _restored(setting, folder, name, f'{name}_out') for name in ('few', 'all')}
    there = len(list((folder / 'all_out').rglob('*.png')))
    return _rate(setting, seconds, len(pictures) - few, there == len(pictures), pictures[0], 'pictures')


def _video(setting: Setting) -> Outcome:
    av = import_av()
    folder = setting.folder / 'video'
    folder.mkdir()
    pictures, few = _sizes(setting)
    for name, count in (('few', few), ('all', len(pictures))):
        with av.open(str(folder / f'{name}.mp4'), 'w') as output:
            stream = output.add_stream('libx264', rate=25)
            stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], 'yuv420p'
            for number, picture in enumerate(pictures[:count]):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format='rgb24')
                frame.pts, frame.time_base = number, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    seconds = {name: _restored(setting, folder, f'{name}.mp4', f'{name}_out') for name in ('few', 'all')}
    with av.open(str(folder / 'all_out/all.mp4')) as result:
        frames = sum(1 for _ in result.decode(video=0))
    return _rate(setting, seconds, len(pictures) - few, frames == len(pictures), pictures[0], 'frames')


def _rate(
    setting: Setting, seconds: dict[str, float], further: int, is_whole: bool, picture: np.ndarray, what: str
) -> Outcome:
    """From a short and a long run: the seconds of one more picture, without the start, beside the network's alone."""
    each, alone = (seconds['all'] - seconds['few']) / further, _network_seconds(setting, picture)
    words = f'{each * 1e3:.1f} ms for each further of the {what}, the network alone {alone * 1e3:.1f} ms'
    return Outcome(
        is_whole, words if is_whole else f'results are missing; {words}', {'seconds': each, 'network': alone}
    )
