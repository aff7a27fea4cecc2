"""Makes random samples depend only on seed, epoch and index, not on the process that reads them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from pdan_plugin.data.seeded_bytes import seeded_bytes
from pdan_plugin.training.random_state import random_state_kept


def seed_generators(seed: int, epoch: int, repeat: int, index: int) -> None:
    """Seeds Python's, numpy's and torch's CPU generator for one sample."""
    drawn = seeded_bytes(20, seed, epoch, repeat, index)
    random.seed(int.from_bytes(drawn[:8], 'little'))
    np.random.seed(int.from_bytes(drawn[8:12], 'little'))  # noqa: NPY002 (what the stock data sets draw from)
    torch.default_generator.manual_seed(int.from_bytes(drawn[12:], 'little'))


class SeededSamples(Dataset[Any]):
    """A data set whose random samples depend only on (seed, epoch, repeat, index).

    In a worker process the generators are seeded before each sample. In the training process the network also draws
    from them (dropout), so their state is restored after each batch.

    All attributes except `dataset` and `seed` are those of the wrapped data set.

    Args:
        dataset: Any data set with `__len__` and `__getitem__`.
        seed: The run's `manual_seed`.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """A sample; the index is a `SampleIndex`. For a plain int, epoch and repeat are 0."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """A batch; torch's loader calls this."""
        if get_worker_info() is not None:
            return [self._read(index) for index in indices]
        with random_state_kept(torch.device('cpu')):
            return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        seed_generators(self.seed, getattr(index, 'epoch', 0), getattr(index, 'repeat', 0), int(index))
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        # torch looks up `__getitems__`, and pickle its special methods. Those of the wrapped data set must not be
        # found: they read without seeding.
        if name.startswith('__') or 'dataset' not in vars(self):
            raise AttributeError(f'{type(self).__name__} has no {name}')
        return getattr(self.dataset, name)
