"""Option dictionaries as the toolbox hands them to a model, and a batch."""

import logging
from copy import deepcopy

import pytest
import torch
from basicsr.utils import get_root_logger

NETWORKS = {
    'PDAN': {'type': 'PDAN', 'num_feat': 16, 'num_group': 2, 'num_block': 1, 'fuse_levels': 2},
    'RCAN': {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_group': 1, 'num_block': 1},
    'EDSR': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 1, 'upscale': 4},
    'SwinIR': {
        'type': 'SwinIR',
        'upscale': 4,
        'img_size': 16,
        'window_size': 4,
        'embed_dim': 12,
        'depths': [1],
        'num_heads': [2],
        'mlp_ratio': 2,
        'upsampler': 'pixelshuffledirect',
    },
    'DRN': {'type': 'DRN', 'num_block': 1},
}


@pytest.fixture
def model_opt(tmp_path):
    """make(model_type, network, is_train=True, **train options) -> the option dictionary."""

    def make(model_type: str, network: str, *, is_train: bool = True, network_opt: dict | None = None, **train) -> dict:
        names = ('models', 'training_states', 'visualization', 'experiments_root')
        folders = {name: str(tmp_path / name) for name in names}
        for folder in folders.values():
            (tmp_path / folder).mkdir(exist_ok=True)
        opt = {
            'name': 'small',
            'model_type': model_type,
            'scale': 4,
            'num_gpu': 0,
            'dist': False,
            'rank': 0,
            'world_size': 1,
            'is_train': is_train,
            'datasets': {'train': {'type': 'REDSPairedDataset'}},
            'network_g': NETWORKS[network] | (network_opt or {}),
            'path': folders,
            'val': {'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}},
        }
        if is_train:
            opt['train'] = {
                'pixel_opt': {'type': 'L1Loss'},
                'optim_g': {'type': 'Adam', 'lr': 1e-3},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [1000]},
                'total_iter': 100,
            } | train
        return deepcopy(opt)

    return make


@pytest.fixture
def batch():
    gt = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), size=(64, 64), mode='bicubic').clamp(0, 1)
    lq = torch.nn.functional.interpolate(gt, scale_factor=0.25, mode='area')
    return {'lq': lq, 'gt': gt, 'lq_sharp': lq.flip(0).contiguous(), 'lq_path': ['000/00000000'] * 2}


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def small_batch(batch):
    """A corner of each picture: a processor without instructions for fp16 takes seconds for more."""
    return {**batch, 'lq': batch['lq'][..., :8, :8].contiguous(), 'gt': batch['gt'][..., :32, :32].contiguous()}
