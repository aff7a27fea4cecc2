"""A few small pictures, an option file for the toolbox's own model, and a process to run it in."""

import sys

import cv2
import numpy as np
import pytest
import yaml
from skimage.data import astronaut

TRAIN_SCRIPT = """
import os
import pdan_plugin
from basicsr.train import train_pipeline
if __name__ == '__main__':
    train_pipeline(os.getcwd())
"""


@pytest.fixture
def picture_pairs(tmp_path):
    """make(names) -> (GT folder of 48x48 PNG crops, LQ folder of 12x12 ones); names may hold folders."""

    def make(names=tuple(f'{number:02d}.png' for number in range(6)), folder='pictures'):
        source = astronaut()[:, :, ::-1]
        gt, lq = tmp_path / folder / 'gt', tmp_path / folder / 'lq'
        for number, name in enumerate(names):
            crop = np.ascontiguousarray(source[8 * number : 8 * number + 48, 160:208])
            for root, picture in ((gt, crop), (lq, cv2.resize(crop, (12, 12), interpolation=cv2.INTER_AREA))):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / name), picture)
        return gt, lq

    return make


@pytest.fixture
def sr_options(tmp_path, picture_pairs):
    """write(**changes) -> path of an option file for SRModel, EDSR and PairedImageDataset; changes are dotted keys."""

    def write(**changes):
        gt, lq = picture_pairs()
        data = {'type': 'PairedImageDataset', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq)}
        options = {
            'name': 'small', 'model_type': 'SRModel', 'scale': 4, 'num_gpu': 'auto', 'manual_seed': 3,
            'datasets': {
                'train': data | {'name': 'crops', 'io_backend': {'type': 'disk'}, 'gt_size': 32, 'use_hflip': True,
                                 'use_rot': True, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2,
                                 'dataset_enlarge_ratio': 1},
                'val': data | {'name': 'whole', 'io_backend': {'type': 'disk'}},
            },
            'network_g': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4},
            'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
            'train': {'ema_decay': 0.9, 'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'total_iter': 6, 'warmup_iter': -1,
                      'scheduler': {'type': 'MultiStepLR', 'milestones': [100]}, 'pixel_opt': {'type': 'L1Loss'}},
            'val': {'val_freq': 100, 'save_img': False,
                    'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4}}},
            'logger': {'print_freq': 1, 'save_checkpoint_freq': 3, 'use_tb_logger': False},
            'dist_params': {'backend': 'nccl', 'port': 29500},
        }  # fmt: skip
        for dotted, value in changes.items():
            *sections, key = dotted.split('__')
            section = options
            for name in sections:
                section = section[name]
            section[key] = value
        path = tmp_path / 'small.yml'
        path.write_text(yaml.safe_dump(options, sort_keys=False))
        return path

    return write


@pytest.fixture
def train(python, warm_python):
    """run(*flags, launcher=()) -> the finished process of the toolbox's trainer, mended, started in tmp_path."""

    def run(*flags, launcher=()):
        return python(TRAIN_SCRIPT, *flags, launcher=launcher) if launcher else warm_python(TRAIN_SCRIPT, *flags)

    return run


@pytest.fixture
def train_here(tmp_path, monkeypatch):
    """run(option file, *flags): the toolbox's trainer in this process, with tmp_path as its working folder."""
    from basicsr.train import train_pipeline

    def run(options, *flags):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['train', '-opt', str(options), *flags])
        train_pipeline(str(tmp_path))

    return run
