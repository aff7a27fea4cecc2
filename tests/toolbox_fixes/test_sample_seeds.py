"""A sample is drawn the same whoever reads it, and the training's own draws are left alone."""

import logging
import random

import numpy as np
import pytest
import torch
from basicsr import data
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset


class Draws(Dataset):
    """Samples are what the three generators draw."""

    opt = {'name': 'draws'}  # noqa: RUF012

    def __init__(self, length=8):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        drawn = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
        return torch.tensor(drawn, dtype=torch.float64)


def _loader(dataset, sampler, workers, seed=5, **further):
    options = {'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': workers, **further}
    return data.build_dataloader(dataset, options, num_gpu=0, sampler=sampler, seed=seed)


def _epoch(epoch, workers=0, ranks=1, seed=5, used=0, **further):
    """The draws of an epoch's samples, by sample, from all ranks."""
    samples = {}
    for rank in range(ranks):
        sampler = EnlargedSampler(Draws(), ranks, rank, 2)
        sampler.set_epoch(epoch)
        sampler.samples_used = {epoch: used}
        drawn = torch.cat(list(_loader(sampler.dataset, sampler, workers, seed, **further)))
        samples |= {(int(index), index.repeat): draws for index, draws in zip(sampler, drawn.tolist(), strict=True)}
    return samples


@pytest.mark.parametrize('how', [{'workers': 1}, {'workers': 3}, {'ranks': 2}, {'workers': 2, 'prefetch_mode': 'cpu'},
                                 {'workers': 1, 'persistent_workers': True}])  # fmt: skip
def test_a_sample_is_drawn_alike_by_any_number_of_workers_and_ranks(how):
    assert _epoch(1, **how) == _epoch(1)


def test_a_sample_is_drawn_alike_when_an_epoch_goes_on_where_it_was():
    whole = _epoch(1)
    rest = _epoch(1, used=6, workers=1)
    assert len(rest) == 10
    assert rest.items() <= whole.items()


def test_draws_differ_by_epoch_use_and_seed():
    first = _epoch(0)
    assert len({value for draws in first.values() for value in draws}) == 3 * 16
    for other in (_epoch(1), _epoch(0, seed=6)):
        assert not {tuple(draws) for draws in first.values()} & {tuple(draws) for draws in other.values()}


def test_the_published_loader_draws_every_epoch_alike(stock):
    with stock():
        published = []
        for epoch in (0, 1):
            sampler = EnlargedSampler(range(8), 1, 0)
            sampler.set_epoch(epoch)
            _loader(range(8), sampler, 2).worker_init_fn(0)
            published.append((random.random(), np.random.rand()))  # noqa: NPY002
        assert published[0] == published[1]


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('phase', ['train', 'val'])
def test_reading_takes_nothing_from_the_draws_of_the_training(workers, phase):
    """Dropout between two batches, and after a validation, draws what it would have drawn without them."""
    sampler = EnlargedSampler(Draws(), 1, 0)
    np.random.randn()  # noqa: NPY002 (numpy now holds a second normal number ready)
    random.gauss(0, 1)

    def drawn():
        return random.gauss(0, 1), np.random.randn(), torch.rand(1).item()  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = [drawn() for _ in range(3)]
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    options = {'phase': phase, 'batch_size_per_gpu': 2, 'num_worker_per_gpu': workers}
    dataset = Draws() if phase == 'train' else torch.zeros(4, 3)
    batches = iter(data.build_dataloader(dataset, options, num_gpu=0, sampler=sampler, seed=5))
    found = []
    for _ in range(3):
        next(batches)
        found.append(drawn())
    assert found == expected


def test_prefetching_in_a_thread_beside_the_training_is_left_out(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('basicsr'), 'propagate', True)
    sampler = EnlargedSampler(Draws(), 1, 0)
    loader = _loader(sampler.dataset, sampler, 0, prefetch_mode='cpu')
    assert type(loader) is torch.utils.data.DataLoader
    assert 'set num_worker_per_gpu to 1 or more' in caplog.text
    assert len(list(loader)) == 4
