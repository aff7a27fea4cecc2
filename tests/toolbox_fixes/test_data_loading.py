"""Epochs of whole batches, and where a resumed run goes on in one."""

import importlib
import logging
import re

import pytest
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.models.sr_model import SRModel

from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.source_mixing import MixingSampler
from pdan_plugin.errors import RequestError

train = importlib.import_module('basicsr.train')


def test_all_iterations_are_trained(stock, sr_options, train_here, monkeypatch):
    """6 images in batches of 4: by the published count of 2 batches an epoch, 6 epochs are enough for 9 iterations."""
    trained = []
    optimize = SRModel.optimize_parameters
    monkeypatch.setattr(
        SRModel, 'optimize_parameters', lambda model, number: [trained.append(number), optimize(model, number)]
    )
    options = sr_options(datasets__train__batch_size_per_gpu=4, train__total_iter=9, logger__save_checkpoint_freq=100)
    with stock():
        train_here(options)
        assert trained == [1, 2, 3, 4, 5, 6]
    trained.clear()
    train_here(options)
    assert trained == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_nothing_to_train_on_is_an_error(stock, sr_options, train_here, tmp_path):
    options = sr_options(datasets__train__batch_size_per_gpu=8)
    with stock():
        train_here(options)
        assert (tmp_path / 'experiments' / 'small' / 'models' / 'net_g_latest.pth').exists()
    with pytest.raises(RequestError, match=r'6 images .* less than one batch of 8'):
        train_here(options)


def test_a_run_without_training_data_is_an_error():
    opt = {'datasets': {}, 'train': {'total_iter': 1}}
    with pytest.raises(RequestError, match="no 'train'"):
        train.create_train_val_dataloader(opt, logging.getLogger())
    opt['datasets']['test'] = {}
    with pytest.raises(RequestError, match="datasets: test: expected 'train', 'val'"):
        train.create_train_val_dataloader(opt, logging.getLogger())


def test_the_sampler_keeps_its_order_and_tells_epoch_and_use(stock):
    sampler = EnlargedSampler(range(5), 2, 1, 3)
    sampler.set_epoch(4)
    with stock():
        published = list(sampler)
    mended = list(sampler)
    assert mended == published
    assert all(isinstance(index, SampleIndex) and index.epoch == 4 for index in mended)
    both = mended + list(EnlargedSampler(range(5), 2, 0, 3))[:0]
    sampler.rank = 0
    both += list(sampler)
    assert len({(int(index), index.repeat) for index in both}) == len(both) == 16


def _remaining(options_loader, resume_iter, batch_size):
    """(epoch, [(index, repeat), ...]) of the first epoch a run resumed at the iteration reads."""
    opt = {
        'num_gpu': 0, 'dist': False, 'world_size': 1, 'rank': 0, 'manual_seed': 3, 'train': {'total_iter': 40},
        'datasets': {'train': {'name': 'x', 'phase': 'train', 'batch_size_per_gpu': batch_size,
                               'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 2}},
        'resume_iter': resume_iter,
    }  # fmt: skip
    _, sampler, _, _, _ = options_loader(opt, logging.getLogger('quiet'))
    epoch = resume_iter // opt['iterations_per_epoch']
    sampler.set_epoch(epoch)
    return epoch, [(int(index), index.repeat) for index in sampler]


def test_a_resumed_run_reads_what_the_interrupted_one_had_not(monkeypatch):
    train = importlib.import_module('basicsr.train')
    monkeypatch.setattr(train, 'build_dataset', lambda _: range(10))
    whole = _remaining(train.create_train_val_dataloader, 0, 4)  # 20 samples an epoch: 5 batches
    assert whole[0] == 0
    assert len(whole[1]) == 20
    assert _remaining(train.create_train_val_dataloader, 3, 4) == (0, whole[1][12:])
    epoch, rest = _remaining(train.create_train_val_dataloader, 7, 4)
    assert epoch == 1
    assert len(rest) == 20 - 2 * 4


def test_a_data_set_may_bring_its_own_sampler_and_is_resumed_by_it(monkeypatch):
    class Mixed(list):
        def training_sampler(self, num_replicas, rank, ratio):
            return MixingSampler(self, (7, 3), (1, 2), num_replicas=num_replicas, rank=rank, ratio=ratio)

    train = importlib.import_module('basicsr.train')
    monkeypatch.setattr(train, 'build_dataset', lambda _: Mixed(range(10)))
    # 20 samples an epoch are 6 batches of 3; two are left over and begin the next epoch.
    _, first = _remaining(train.create_train_val_dataloader, 0, 3)
    assert _remaining(train.create_train_val_dataloader, 4, 3) == (0, first[12:])
    epoch, second = _remaining(train.create_train_val_dataloader, 6, 3)
    assert (epoch, second[:2]) == (1, first[18:])
    drawn = [index for index, _ in first[:18] + second[:18]]
    assert sum(index >= 7 for index in drawn) == 24


def test_a_batch_of_several_parts_holds_the_samples_of_all(monkeypatch, caplog):
    monkeypatch.setattr(train, 'build_dataset', lambda _: range(10))
    values = {'name': 'x', 'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0}
    opt = {
        'num_gpu': 0, 'dist': False, 'world_size': 1, 'rank': 0, 'manual_seed': 3, 'datasets': {'train': values},
        'train': {'total_iter': 40, 'accumulation_steps': 3},
    }  # fmt: skip
    with caplog.at_level(logging.INFO, 'told'):
        loader, _, _, epochs, _ = train.create_train_val_dataloader(opt, logging.getLogger('told'))
    assert loader.batch_size == 6
    assert (opt['iterations_per_epoch'], epochs, values['batch_size_per_gpu']) == (1, 40, 2)
    assert 'Batch size per rank: 6, computed in 3 parts' in caplog.text


def test_another_batch_size_goes_on_to_the_end(tmp_path, sr_options, train_here):
    """The state's epoch counts another run's batches; the stock trainer then stops without an iteration."""
    from_small = sr_options(datasets__train__batch_size_per_gpu=6)
    train_here(from_small)
    experiment = tmp_path / 'experiments' / 'small'
    train_here(sr_options(datasets__train__batch_size_per_gpu=1), '--auto_resume', '--force_yml', 'train:total_iter=9')
    logs = ''.join(path.read_text() for path in sorted(experiment.glob('train_*.log')))
    assert [int(number) for number in re.findall(r', iter:\s+(\d+), lr', logs)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
