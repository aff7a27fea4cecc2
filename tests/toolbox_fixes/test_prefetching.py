"""Prefetching that ends: with its data, with an error, or when nobody asks any more."""

import gc
import threading
import traceback

import pytest
import torch
from basicsr import data
from basicsr.data import prefetch_dataloader
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import Dataset

from pdan_plugin.errors import RequestError


class Indices(Dataset):
    """Samples are their indices; one of them may be broken."""

    def __init__(self, length, fails_at=None):
        self.length, self.fails_at = length, fails_at

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.fails_at:
            raise ValueError(f'sample {int(index)} is broken')
        return int(index)


def _loader(sampler, *, workers=0, **options):
    options = {'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': workers} | options
    # without a seed: a seeded loader without workers does not prefetch
    return data.build_dataloader(sampler.dataset, options, num_gpu=0, sampler=sampler)


def _prefetched(dataset, workers=0):
    return _loader(EnlargedSampler(dataset, 1, 0), workers=workers, prefetch_mode='cpu', num_prefetch_queue=1)


def test_prefetching_yields_every_batch_and_ends():
    batches = iter(_prefetched(Indices(8)))
    assert sorted(torch.cat(list(batches)).tolist()) == list(range(8))
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_broken_sample_reaches_the_trainer_with_its_traceback(workers):
    with pytest.raises(ValueError, match='sample 3 is broken') as raised:
        list(_prefetched(Indices(8, fails_at=3), workers))
    assert '__getitem__' in ''.join(traceback.format_exception(raised.value))


def test_the_stock_prefetcher_dies_with_the_sample(stock, monkeypatch):
    died = threading.Event()
    monkeypatch.setattr(threading, 'excepthook', lambda args: died.set())
    with stock():
        batches = iter(_prefetched(Indices(4, fails_at=3)))
        assert died.wait(20)
        batches.join()
        while not batches.queue.empty():
            assert batches.queue.get() is not None  # no end is marked, so the trainer would wait for ever


def test_a_dropped_iterator_ends_its_thread():
    before = set(threading.enumerate())
    batches = iter(_prefetched(Indices(1000)))
    next(batches)
    (thread,) = set(threading.enumerate()) - before
    del batches
    gc.collect()
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_prefetching_for_cuda_needs_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RequestError, match=r'prefetch_mode: cuda needs a CUDA device.*prefetch_mode: cpu'):
        prefetch_dataloader.CUDAPrefetcher([], {'num_gpu': 0})


def test_no_sample_is_read_before_the_first_epoch_is_set(stock):
    def epochs():
        asked = []
        sampler_iter = EnlargedSampler.__iter__

        class Counting(EnlargedSampler):
            def __iter__(self):
                asked.append(self.epoch)
                return sampler_iter(self)

        counting = Counting(Indices(4), 1, 0)
        prefetcher = prefetch_dataloader.CPUPrefetcher(_loader(counting, workers=1))
        counting.set_epoch(7)
        prefetcher.reset()
        batches = []
        while (batch := prefetcher.next()) is not None:
            batches.append(batch)
        assert len(batches) == 2
        return asked

    with stock():
        assert epochs() == [0, 7]
    assert epochs() == [7]


def test_a_prefetcher_that_was_not_reset_begins_by_itself():
    sampler = EnlargedSampler(Indices(4), 1, 0)
    prefetcher = prefetch_dataloader.CPUPrefetcher(_loader(sampler))
    assert prefetcher.next() is not None
