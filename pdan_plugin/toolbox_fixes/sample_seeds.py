"""What a data set draws for a training sample, and what it must not take from the network's own draws."""

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
    behaves=lambda: _draws_hang_on_the_sample(),
)
def every_sample_has_its_seed() -> None:
    """The training loader reads through `SeededSamples`, except for data sets with `draws_from_sample_index`.

    No loader takes from the training's own draws.

    `prefetch_mode: cpu` without workers reads in a thread beside the training, whose draws would mix with the
    network's. Such a loader reads in the training's own thread, with a warning.
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
                    'datasets: train: prefetch_mode: cpu reads nothing ahead with num_worker_per_gpu: 0; '
                    'set num_worker_per_gpu to 1 or more to read beside the training'
                )
                dataset_opt = {**dataset_opt, 'prefetch_mode': None}
        loader = published(dataset, dataset_opt, num_gpu=num_gpu, dist=dist, sampler=sampler, seed=seed)
        # a loader draws a seed for its workers at each start, by default from the training's generator
        loader.generator = torch.Generator()
        return loader

    replace(toolbox_data, 'build_dataloader', build_dataloader)


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
    with random_state_kept(torch.device('cpu')):
        loader = toolbox_data.build_dataloader(dataset, dataset_opt, num_gpu=0, sampler=sampler, seed=1)
        before = torch.get_rng_state()
        for epoch in (0, 1, 0):
            sampler.set_epoch(epoch)
            draws.extend(loader)
        is_kept = torch.equal(torch.get_rng_state(), before)
    return is_kept and torch.equal(draws[0], draws[2]) and bool((draws[0] != draws[1]).all())
