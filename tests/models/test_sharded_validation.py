"""Validation shared by several ranks gives the numbers, names and pictures one rank gives."""

import os
import threading
import time
from copy import deepcopy

import pytest
import torch
from basicsr.models import build_model
from basicsr.models.swinir_model import SwinIRModel
from gloo_ranks import answers_of_ranks
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from pdan_plugin.models import sharded_validation
from pdan_plugin.models.background_scoring import BackgroundScoring
from pdan_plugin.models.restoration_model import RestorationModel


class Frames(Dataset):
    """Five frames of noise, two clips."""

    opt = {'name': 'held-out', 'dataroot_lq': 'datasets/lq.lmdb'}  # noqa: RUF012 (the toolbox's own form)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        gt = torch.rand(3, 24, 24, generator=generator)
        return {'lq': gt[:, ::4, ::4].contiguous(), 'gt': gt, 'lq_path': f'{index // 3:03d}/{index:08d}'}


def validate(opt):
    torch.manual_seed(0)
    model = build_model(opt)
    loader = DataLoader(Frames(), batch_size=1)
    (model.dist_validation if opt['dist'] else model.nondist_validation)(loader, 'x', None, True)
    return model.metric_results


def validate_as(opt, _rank):
    return validate(opt)


def scores_of_images(path):
    """The table without its last column, the seconds."""
    return [line.rpartition(',')[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize('world_size', [2, 3])
def test_any_number_of_ranks_gives_the_same(model_opt, tmp_path, world_size):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 0}
    alone = validate(opt)
    pictures = tmp_path / 'visualization/held-out'
    expected = {path.name: path.read_bytes() for path in pictures.iterdir()}
    assert sorted(expected) == [f'{index // 3:03d}_{index:08d}.png' for index in range(5)]
    table = scores_of_images(tmp_path / 'held-out.csv')
    assert len(table) == 6
    for path in pictures.iterdir():
        path.unlink()

    results = answers_of_ranks(validate_as, world_size, tmp_path, opt)
    assert results == [alone] * world_size  # to the last bit
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == expected
    assert scores_of_images(tmp_path / 'held-out.csv') == table


def test_the_toolboxs_suffix_is_kept(model_opt, tmp_path):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['suffix'] = 'x4'
    validate(opt)
    assert os.path.exists(tmp_path / 'visualization/held-out/000_00000000_x4.png')


class Reflecting(nn.Module):
    """A blur that extends its input by reflection, which takes at least ten pixels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return functional.avg_pool2d(functional.pad(x, [9] * 4, mode='reflect'), 19, stride=1) + 0 * self.conv(x)


def test_a_picture_below_the_least_size_of_the_network_is_extended(model_opt):
    """As `basicsr restore` does; the pictures beside it are not."""
    model = build_model(model_opt('RestorationModel', 'EDSR', is_train=False))
    model.net_g = Reflecting()
    small = torch.rand(1, 3, 6, 7)
    rows, columns = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1], [0, 1, 2, 3, 4, 5, 6, 5, 4, 3]
    for picture, extended in ((small, small[:, :, rows][..., columns]), (torch.rand(1, 3, 10, 12),) * 2):
        model.lq = picture
        model.test()
        expected = model.net_g(extended)[..., : picture.shape[-2], : picture.shape[-1]]
        torch.testing.assert_close(model.output, expected)
    model.net_g.conv = nn.Conv2d(4, 3, 1)  # which fails for another reason
    model.lq = torch.rand(1, 3, 20, 20)
    with pytest.raises(RuntimeError, match='to have 4 channels'):
        model.test()


@pytest.mark.parametrize('is_train', [True, False])
def test_a_network_of_windows_gets_pictures_it_accepts(model_opt, is_train):
    """SwinIR accepts multiples of its windows: as in the toolbox's SwinIRModel, without being asked."""
    torch.manual_seed(0)
    opt = model_opt('RestorationModel', 'SwinIR', is_train=is_train)
    model = RestorationModel(opt)
    picture = torch.rand(1, 3, 13, 18)
    model.is_validating, was_training = True, model.net_g.training
    model.feed_data({'lq': picture})
    model.test()
    assert model.output.shape == (1, 3, 52, 72)
    stock = SwinIRModel(deepcopy(opt) | {'model_type': 'SwinIRModel', 'is_train': False})
    stock.net_g.load_state_dict(model.get_bare_model(model.net_g).state_dict())
    stock.lq = picture
    stock.test()
    torch.testing.assert_close(model.output, stock.output, atol=2e-6, rtol=0)
    assert model.net_g.training is was_training


def normalised(opt, train_rank=None):
    """A model with a BatchNorm, after two steps on samples that are brighter on each further rank."""
    torch.manual_seed(0)
    model = RestorationModel(opt)
    network = model.get_bare_model(model.net_g)
    network.conv_first = nn.Sequential(network.conv_first, nn.BatchNorm2d(16))
    if 'net_g_ema' in vars(model):
        model.net_g_ema = deepcopy(network)
    if train_rank is not None:
        gt = (1 + train_rank) * torch.rand(2, 3, 32, 32)
        for _ in range(2):
            network(gt[..., ::4, ::4])
        model.model_ema(0.5)
    return model


def validate_with_statistics(opt, rank):
    model = normalised(opt, rank)
    model.save(0, 1)
    model.validation(DataLoader(Frames(), batch_size=1), 1, None, False)
    return model.metric_results


def test_the_statistics_that_are_saved_are_validated(model_opt, tmp_path):
    """Ranks have running statistics of their own samples; a checkpoint has rank 0's."""
    opt = model_opt('RestorationModel', 'EDSR', ema_decay=0.5)
    results = answers_of_ranks(validate_with_statistics, 2, tmp_path, opt)

    alone = normalised(opt | {'name': 'alone', 'path': opt['path'] | {'experiments_root': str(tmp_path)}})
    weights = torch.load(tmp_path / 'models/net_g_1.pth', weights_only=True)
    alone.net_g_ema.load_state_dict(weights['params_ema'])
    alone.validation(DataLoader(Frames(), batch_size=1), 1, None, False)
    assert results == [alone.metric_results] * 2


class SlowFrames(Frames):
    """Frames whose reading takes a moment, and that fail where a test says so."""

    def __init__(self, model, fails_at=None):
        self.model, self.fails_at, self.read, self.threads = model, fails_at, [], set()

    def __getitem__(self, index):
        while_restoring = [self.model.is_validating]
        time.sleep(0.01)
        if index == self.fails_at:
            raise OSError(f'{index}.png: cannot be read')
        while_restoring.append(self.model.is_validating)
        self.read.append((index, any(while_restoring)))
        self.threads.add(threading.current_thread().name)
        return super().__getitem__(index)


def restored_by(opt, **options):
    torch.manual_seed(0)
    model = build_model(opt)
    frames = SlowFrames(model, **options)
    return model, frames, DataLoader(frames, batch_size=1)


def test_a_test_measures_the_network_while_nothing_is_read_or_scored(model_opt, monkeypatch):
    """Threads for scoring are those of a machine with a GPU."""
    monkeypatch.setattr(sharded_validation, 'scoring_threads', lambda device: 2)
    model, frames, loader = restored_by(model_opt('RestorationModel', 'EDSR', is_train=False))
    scored = []

    def score(self, *arguments):
        scored.append(model.is_validating)
        time.sleep(0.01)
        scored.append(model.is_validating)
        return {'psnr': 1.0}

    monkeypatch.setattr(BackgroundScoring, '_score', score)
    test = model.test
    monkeypatch.setattr(model, 'test', lambda: (time.sleep(0.02), test()))  # a network that others have time to disturb
    model.nondist_validation(loader, 'x', None, False)
    assert frames.read == [(index, False) for index in range(5)]
    assert scored == [False] * 10
    assert frames.threads == {'reading ahead'}


def test_validation_in_training_reads_ahead_and_a_broken_picture_ends_it_at_its_place(model_opt):
    expected = validate(model_opt('RestorationModel', 'EDSR', is_train=False))
    model, frames, loader = restored_by(model_opt('RestorationModel', 'EDSR'))
    model.validation(loader, 1, None, False)
    assert [index for index, _ in frames.read] == list(range(5))
    assert frames.threads == {'reading ahead'}
    assert model.metric_results.keys() == expected.keys()
    model, frames, loader = restored_by(model_opt('RestorationModel', 'EDSR'), fails_at=3)
    restored = []
    model.test = lambda test=model.test: (restored.append(1), test())
    with pytest.raises(OSError, match=r'3\.png: cannot be read'):
        model.validation(loader, 1, None, False)
    assert len(restored) == 3
    assert not [each for each in threading.enumerate() if each.name == 'reading ahead']


def test_a_stop_ends_reading_ahead_too(model_opt, monkeypatch):
    model, frames, loader = restored_by(model_opt('RestorationModel', 'EDSR'))
    monkeypatch.setattr(sharded_validation, 'stop_requested', lambda: len(frames.read) >= 2)
    model.validation(loader, 1, None, False)
    assert not hasattr(model, 'metric_results')
    assert len(frames.read) < 5
    assert not [each for each in threading.enumerate() if each.name == 'reading ahead']


class GrowingFrames(Frames):
    """The first three frames have one size, the others have other sizes."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        side = 4 + max(0, index - 2)
        return sample | {'lq': sample['lq'][:, :side], 'gt': sample['gt'][:, : 4 * side]}


@pytest.mark.parametrize(('frames', 'expected'), [(Frames, [True] * 5), (GrowingFrames, [True] * 3 + [False] * 2)])
def test_cudnn_searches_as_long_as_all_pictures_have_one_size(frames, expected, model_opt):
    torch.manual_seed(0)
    model = build_model(model_opt('RestorationModel', 'EDSR'))
    searching = []
    model.test = lambda test=model.test: (searching.append(torch.backends.cudnn.benchmark), test())
    before = torch.backends.cudnn.benchmark
    for _ in range(2):  # each validation begins anew
        searching.clear()
        model._validated_at.clear()
        model.validation(DataLoader(frames(), batch_size=1), 1, None, False)
        assert searching == expected
    assert torch.backends.cudnn.benchmark is before
