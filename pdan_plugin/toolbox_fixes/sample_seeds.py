"""What a data set draws for a training sample, and what it must not take from the network's own draws."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from basicsr import data as toolbox_data
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils import get_root_logger
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pdan_plugin.toolbox_fixes.patching import fix, probe, replace


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

    It answers for the data set it holds: other attributes than the data set's and the seed are that one's.

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
        with generators_kept():
            return [self._read(index) for index in indices]

    def _read(self, index: int) -> Any:
        seed_generators(self.seed, getattr(index, 'epoch', 0), getattr(index, 'repeat', 0), int(index))
        return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        # torch looks for `__getitems__` and pickle for its hooks: those of the data set would pass the seeds by
        if name.startswith('__') or 'dataset' not in vars(self):
            raise AttributeError(f'{type(self).__name__} has no {name}')
        return getattr(self.dataset, name)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leaves Python's, numpy's and torch's CPU generator as they were."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


@fix(
    where='data/__init__.py:99',
    upstream='none',
    symptom='every epoch repeats the same crops and flips, which hang on the number of workers; torch is not seeded',
)
def every_sample_has_its_seed() -> bool:
    """The training loader reads through `SeededSamples`, but for data sets that say `draws_from_sample_index`.

    No loader takes from the training's own draws.

    `prefetch_mode: cpu` without workers reads in a thread beside the training, whose draws would mix with the
    network's; such a loader reads in the training's own thread, and a warning says so.
    """
    if _draws_hang_on_the_sample():
        return False
    published = toolbox_data.build_dataloader

    @functools.wraps(published)
    def build_dataloader(
        dataset: Any,
        dataset_opt: dict[str, Any],
        num_gpu: int = 1,
        dist: bool = False,
        sampler: Any = None,
        seed: int | None = None,
    ) -> DataLoader:
        if dataset_opt['phase'] == 'train' and seed is not None:
            if not getattr(dataset, 'draws_from_sample_index', False):
                dataset = SeededSamples(dataset, seed)
            if dataset_opt.get('prefetch_mode') == 'cpu' and dataset_opt['num_worker_per_gpu'] == 0:
                get_root_logger().warning(
                    'datasets: train: prefetch_mode: cpu reads nothing ahead with num_worker_per_gpu: 0; '
                    'set num_worker_per_gpu to 1 or more to read beside the training'
                )
                dataset_opt = {**dataset_opt, 'prefetch_mode': None}
        loader = published(dataset, dataset_opt, num_gpu=num_gpu, dist=dist, sampler=sampler, seed=seed)
        # a loader draws a seed for its workers at each start, by default from the training's generator
        loader.generator = torch.Generator()
        return loader

    replace(toolbox_data, 'build_dataloader', build_dataloader)
    return True


@probe
def _draws_hang_on_the_sample() -> bool:
    """Whether each of the generators gives a sample the same in the same epoch only, and is then as it was before."""

    class Draws(Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])  # noqa: NPY002

    dataset = Draws()
    sampler = EnlargedSampler(dataset, 1, 0)
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0}
    draws = []
    with generators_kept():
        loader = toolbox_data.build_dataloader(dataset, dataset_opt, num_gpu=0, sampler=sampler, seed=1)
        before = torch.get_rng_state()
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            draws.extend(loader)
        is_kept = torch.equal(torch.get_rng_state(), before)
    return is_kept and torch.equal(draws[0], draws[2]) and bool((draws[0] != draws[1]).all())
