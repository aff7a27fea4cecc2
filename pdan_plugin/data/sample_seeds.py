"""Samples that are drawn from seed, epoch and index alone, whatever process reads them and when."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from pdan_plugin.training.random_state import random_state_kept


def seed_generators(seed: int, epoch: int, repeat: int, index: int) -> None:
    """Seeds Python's, numpy's and torch's CPU generator for one sample."""
    digest = hashlib.blake2b(f'{seed} {epoch} {repeat} {index}'.encode(), digest_size=20).digest()
    random.seed(int.from_bytes(digest[:8], 'little'))
    np.random.seed(int.from_bytes(digest[8:12], 'little'))  # noqa: NPY002 (what the stock data sets draw from)
    torch.default_generator.manual_seed(int.from_bytes(digest[12:], 'little'))


class SeededSamples(Dataset):
    """A data set whose every sample is drawn from (seed, epoch, repeat, index) alone, whatever reads it and when.

    In a worker process the generators are simply seeded before each sample. In the training process they are the
    network's too (dropout), so they are put back after each batch.

    All attributes but `dataset` and `seed` are those of the data set it holds.

    Args:
        dataset: Any data set with lengths and indices.
        seed: The run's `manual_seed`.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """A sample; the index is a `SampleIndex`, or else its epoch and repeat are 0."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """A batch: torch's loader asks for it at once."""
        if get_worker_info() is not None:
            return [self._read(index) for index in indices]
        with random_state_kept(torch.device('cpu')):
            return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        seed_generators(self.seed, getattr(index, 'epoch', 0), getattr(index, 'repeat', 0), int(index))
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        # torch looks for `__getitems__` and pickle for its hooks: those of the data set would pass the seeds by
        if name.startswith('__') or 'dataset' not in vars(self):
            raise AttributeError(f'{type(self).__name__} has no {name}')
        return getattr(self.dataset, name)
