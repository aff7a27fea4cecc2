"""How many processes read the data changes nothing in what is learned."""

import sys

import pytest
import small_run
import torch
from basicsr.train import train_pipeline


@pytest.mark.parametrize('model_type', ['RestorationModel', 'SRModel'])
def test_the_same_seed_gives_the_same_weights_for_0_1_and_4_workers(tmp_path, monkeypatch, model_type):
    small_run.write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    weights = []
    for workers in (0, 1, 4):
        options = small_run.changed(small_run.train_options(), 'datasets.train.num_worker_per_gpu', workers)
        options |= {'name': f'workers_{workers}', 'model_type': model_type}
        options['train'] |= {'total_iter': 8, 'optim_g': {'type': 'Adam', 'lr': 1e-3}}
        monkeypatch.setattr(sys, 'argv', ['train', '-opt', str(small_run.write_options(tmp_path, options))])
        train_pipeline(str(tmp_path))
        weights.append(torch.load(f'experiments/workers_{workers}/models/net_g_latest.pth', weights_only=True))
    assert small_run.equal(weights[0], weights[1])
    assert small_run.equal(weights[0], weights[2])
