"""Makes the toolbox's loaders seed every training sample, independently of the network's draws.

`pdan_plugin/data/sample_seeds.py` computes the seeds.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import numpy as np
import torch
from basicsr import data as toolbox_data
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils import get_root_logger
from torch.utils.data import DataLoader, Dataset

from pdan_plugin.data.sample_seeds import SeededSamples
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace
from pdan_plugin.training.random_state import random_state_kept


@fix(
    where='data/__init__.py:99',
    upstream='none',
    symptom='every epoch repeats the same crops and flips, which depend on the number of workers; torch is not seeded',
    behaves=lambda: _draws_depend_on_the_sample(),
)
def every_sample_has_its_seed() -> None:
    """Wraps the training data set in `SeededSamples`, except data sets with `draws_from_sample_index`.

    No loader draws from the training's random generators.

    With `prefetch_mode: cpu` and no workers, a second thread would read samples, and its draws would mix with the
    network's. So such a loader reads in the main thread, and a warning is logged.
    """
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
                    'datasets: train: prefetch_mode: cpu prefetches nothing with num_worker_per_gpu: 0; '
                    'set num_worker_per_gpu to 1 or more to load data in parallel with the training'
                )
                dataset_opt = {**dataset_opt, 'prefetch_mode': None}
        loader = published(dataset, dataset_opt, num_gpu=num_gpu, dist=dist, sampler=sampler, seed=seed)
        # at each start a loader draws a seed for its workers, by default from the training's generator
        loader.generator = torch.Generator()
        return loader

    replace(toolbox_data, 'build_dataloader', build_dataloader)


@probe
def _draws_depend_on_the_sample() -> bool:
    """Whether a sample's draws repeat in the same epoch only, and torch's generator is unchanged afterwards."""

    class Draws(Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])  # noqa: NPY002

    dataset = Draws()
    sampler = EnlargedSampler(dataset, 1, 0)
    dataset_opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 0}
    draws = []
    with random_state_kept(torch.device('cpu')):
        loader = toolbox_data.build_dataloader(dataset, dataset_opt, num_gpu=0, sampler=sampler, seed=1)
        before = torch.get_rng_state()
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            draws.extend(loader)
        is_kept = torch.equal(torch.get_rng_state(), before)
    return is_kept and torch.equal(draws[0], draws[2]) and bool((draws[0] != draws[1]).all())
