"""A run small enough for a test: a few real picture pairs, and options for a network of some thousand parameters."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from child_processes import PYTHON_PATH
from skimage.data import astronaut

SCALE = 4


def write_pictures(folder: Path, count: int = 6) -> None:
    """``gt`` (96x128) and ``lq`` (24x32) under ``folder``: crops of a photograph, PNG."""
    source = astronaut()[:, :, ::-1]
    for name in ('gt', 'lq'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        crop = np.ascontiguousarray(source[16 * number : 16 * number + 96, 160:288])
        cv2.imwrite(str(folder / 'gt' / f'{number:03d}.png'), crop)
        small = cv2.resize(crop, (128 // SCALE, 96 // SCALE), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / 'lq' / f'{number:03d}.png'), small)


def dataset(**further: Any) -> dict[str, Any]:
    return {
        'name': 'small',
        'type': 'PairedImageDataset',
        'dataroot_gt': 'gt',
        'dataroot_lq': 'lq',
        'io_backend': {'type': 'disk'},
        **further,
    }


def train_options() -> dict[str, Any]:
    return {
        'name': 'small',
        'model_type': 'SRModel',
        'scale': SCALE,
        'num_gpu': 'auto',
        'manual_seed': 0,
        'datasets': {
            'train': dataset(gt_size=32, use_hflip=True, use_rot=True, num_worker_per_gpu=0, batch_size_per_gpu=2),
            'val': dataset(),
        },
        'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': SCALE},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {
            'ema_decay': 0.9,
            'optim_g': {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [2], 'gamma': 0.5},
            'total_iter': 2,
            'warmup_iter': -1,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
        },
        'val': {
            'val_freq': 2,
            'save_img': False,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'better': 'higher'}},
        },
        'logger': {
            'print_freq': 1,
            'save_checkpoint_freq': 2,
            'use_tb_logger': False,
            'wandb': {'project': None, 'resume_id': None},
        },
        'dist_params': {'backend': 'gloo', 'port': 29500},
    }


def test_options() -> dict[str, Any]:
    options = train_options()
    return {
        **{key: options[key] for key in ('model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g')},
        'name': 'small_test',
        'datasets': {'test_1': dataset()},
        'path': {'pretrain_network_g': 'experiments/small/models/net_g_latest.pth', 'strict_load_g': True},
        'val': {'save_img': True, 'suffix': None, 'metrics': options['val']['metrics']},
    }


test_options.__test__ = False  # it builds options for a test run


def changed(options: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """A copy with one key, given dotted, set; its parent sections must be there."""
    result = copy.deepcopy(options)
    *parents, key = dotted.split('.')
    section = result
    for parent in parents:
        section = section[parent]
    section[key] = value
    return result


def without(options: dict[str, Any], dotted: str) -> dict[str, Any]:
    """A copy that lacks one key, given dotted."""
    result = copy.deepcopy(options)
    *parents, key = dotted.split('.')
    section = result
    for parent in parents:
        section = section[parent]
    del section[key]
    return result


def write_options(folder: Path, options: dict[str, Any], name: str = 'small.yml') -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding='utf-8')
    return path


def equal(one: Any, other: Any) -> bool:
    """Whether two checkpoints, or parts of them, hold the same to the bit."""
    return not unlike(one, other)


def unlike(one: Any, other: Any, place: str = '') -> list[str]:
    """The places in which two checkpoints, or parts of them, do not hold the same to the bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [place]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [each for key in one for each in unlike(one[key], other[key], f'{place}.{key}')]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [each for number, pair in enumerate(zip(one, other, strict=True))
                for each in unlike(*pair, f'{place}[{number}]')]  # fmt: skip
    return [] if type(one) is type(other) and one == other else [place]


def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes ``folder`` the working folder, with pictures and an option file small.yml; not in any launcher's group."""
    write_pictures(folder)
    write_options(folder, train_options())
    monkeypatch.chdir(folder)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    return folder


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m pdan_plugin WORDS` in a process of its own."""
    path = os.pathsep.join([PYTHON_PATH, *filter(None, [os.environ.get('PYTHONPATH')])])
    return subprocess.run(
        [sys.executable, '-m', 'pdan_plugin', *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path, **environment},
        timeout=600,
    )
