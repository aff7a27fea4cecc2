"""Checkpoints that survive a kill, a full disk and a compiler."""

import logging
import os
import time
from types import SimpleNamespace

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import nn

from pdan_plugin.files.torch_files import save_atomically


@pytest.fixture
def model(tmp_path):
    """A BaseModel with folders, one optimizer and one scheduler."""
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False})
    model.opt['path'] = {name: str(tmp_path / name) for name in ('models', 'training_states')}
    for folder in model.opt['path'].values():
        os.mkdir(folder)
    model.optimizers = [torch.optim.Adam([torch.zeros(1, requires_grad=True)])]
    model.schedulers = [torch.optim.lr_scheduler.StepLR(model.optimizers[0], 3)]
    return model


class _DiskFull:
    def __reduce__(self):
        raise OSError(28, 'No space left on device')


def test_a_failed_save_raises_and_leaves_the_earlier_file(stock, model, tmp_path, monkeypatch):
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    path = tmp_path / 'models' / 'net_g_latest.pth'

    def save(weight):
        net = SimpleNamespace(state_dict=lambda: {'weight': weight})
        model.save_network(net, 'net_g', -1)

    broken = SimpleNamespace(cpu=_DiskFull)
    with stock():
        save(torch.ones(3))
        save(broken)
        with pytest.raises((RuntimeError, EOFError)):
            torch.load(path, weights_only=True)
    save(torch.ones(3))
    with pytest.raises(OSError, match=r'cannot save .*net_g_latest\.pth: .*No space left.*unchanged'):
        save(broken)
    assert torch.load(path, weights_only=True)['params']['weight'].tolist() == [1, 1, 1]
    with pytest.raises(OSError, match='no partial file is left'):
        save_atomically(_DiskFull(), str(tmp_path / 'models' / 'new.pth'))
    assert os.listdir(path.parent) == ['net_g_latest.pth']


def test_a_compiled_networks_names_are_its_own(stock, model):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    compiled = torch.compile(net)
    inner = nn.Sequential(torch.compile(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))
    path = os.path.join(model.opt['path']['models'], 'net_g_5.pth')
    with stock():
        model.save_network(compiled, 'net_g', 5)
        assert '_orig_mod.0.weight' in torch.load(path)['params']
    for wrapped in (compiled, inner, nn.ModuleDict({'module': net}), net):
        model.save_network(wrapped, 'net_g', 5)
        saved = torch.load(path, weights_only=True)['params']
        assert set(saved) == set(net.state_dict())
        assert saved._metadata['1'] == net.state_dict()._metadata['1']
        net.load_state_dict(saved)


def test_the_form_of_the_file_is_the_published_one(stock, model):
    net, average = nn.Linear(2, 2), nn.Linear(2, 2)
    path = os.path.join(model.opt['path']['models'], 'net_g_5.pth')
    saved = []
    for mended in (False, True):
        if mended:
            model.save_network([net, average], 'net_g', 5, param_key=['params', 'params_ema'])
        else:
            with stock():
                model.save_network([net, average], 'net_g', 5, param_key=['params', 'params_ema'])
        saved.append(torch.load(path, weights_only=True))
    assert list(saved[0]) == list(saved[1]) == ['params', 'params_ema']
    for key in saved[0]:
        assert all(torch.equal(saved[0][key][name], value) for name, value in saved[1][key].items())
    with pytest.raises(ValueError, match='2 networks to save under 1 keys'):
        model.save_network([net, average], 'net_g', 5)


def test_training_states_are_whole_too(model, tmp_path):
    model.save_training_state(2, 7)
    model.save_training_state(-1, -1)
    assert os.listdir(tmp_path / 'training_states') == ['7.state']
    state = torch.load(tmp_path / 'training_states' / '7.state', weights_only=True)
    assert (state['epoch'], state['iter'], len(state['optimizers']), len(state['schedulers'])) == (2, 7, 1, 1)
    model.optimizers = [SimpleNamespace(state_dict=_DiskFull)]
    with pytest.raises(OSError, match=r'7\.state: .*unchanged'):
        model.save_training_state(2, 7)


def test_the_newest_and_the_best_checkpoints_are_kept(model, tmp_path):
    """As SRModel saves: the network, then the state; the best score so far was had at iteration 2."""
    net = nn.Linear(2, 2)
    model.opt['logger'] = {'keep_checkpoints': 2}
    model.best_metric_results = {'whole': {'psnr': {'better': 'higher', 'val': 30.0, 'iter': 2}}}
    (tmp_path / 'models' / 'notes_3.pth').write_bytes(b'')
    for iteration in (-1, 1, 2, 3, 4, 5):
        for label in ('net_g', 'net_d'):
            model.save_network(net, label, iteration)
        model.save_training_state(0, iteration)
    assert sorted(os.listdir(tmp_path / 'training_states')) == ['2.state', '4.state', '5.state']
    assert sorted(os.listdir(tmp_path / 'models')) == sorted(
        [f'net_{label}_{which}.pth' for label in 'dg' for which in (2, 4, 5, 'latest')] + ['notes_3.pth']
    )


def test_a_run_that_went_back_keeps_the_state_just_saved(model, tmp_path):
    """States of a later iteration are of another course of the run: they are neither removed nor counted."""
    for iteration in (3, 6, 9):
        model.save_network(nn.Linear(2, 2), 'net_g', iteration)
        model.save_training_state(0, iteration)
    model.opt['logger'] = {'keep_checkpoints': 1}
    model.save_network(nn.Linear(2, 2), 'net_g', 5)
    model.save_training_state(0, 5)
    assert sorted(os.listdir(tmp_path / 'training_states')) == ['5.state', '6.state', '9.state']


def test_what_cannot_be_removed_is_told_and_keeps_its_networks(model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    model.opt['logger'] = {'keep_checkpoints': 1}
    (tmp_path / 'training_states' / '1.state').mkdir()  # no file, so it cannot be removed as one
    model.save_network(nn.Linear(2, 2), 'net_g', 1)
    model.save_training_state(0, 2)
    assert 'keep_checkpoints: cannot remove' in caplog.text
    assert os.listdir(tmp_path / 'models') == ['net_g_1.pth']
