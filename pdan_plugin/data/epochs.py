"""Epochs of the training data: the number of batches in one, and indices that carry their epoch."""

from __future__ import annotations

import math

from pdan_plugin.errors import RequestError


def iterations_per_epoch(images: int, enlarge_ratio: float, batch_size: int, world_size: int) -> int:
    """Whole batches per rank in an epoch; the loader drops an incomplete last batch.

    Args:
        images: Length of the data set.
        enlarge_ratio: `dataset_enlarge_ratio`.
        batch_size: Images in one batch of one rank.
        world_size: Number of ranks.

    Raises:
        RequestError: There is less than one whole batch.

    >>> iterations_per_epoch(images=24000, enlarge_ratio=1, batch_size=16, world_size=2)
    750
    """
    batches = math.ceil(images * enlarge_ratio / world_size) // batch_size
    if batches == 0:
        needed = math.ceil(((batch_size - 1) * world_size + 1) / max(images, 1))
        raise RequestError(
            f'datasets: train: {images} images x dataset_enlarge_ratio {enlarge_ratio} over {world_size} rank(s) are '
            f'less than one batch of {batch_size}, so there is nothing to train on; lower batch_size_per_gpu, or set '
            f'dataset_enlarge_ratio to {needed} or more'
        )
    return batches


class SampleIndex(int):
    """An index into a data set, with its epoch and its ``repeat``: how often the epoch has used the index before.

    A data set that draws its augmentation from (seed, epoch, repeat, index) makes the same draws in any worker.
    """

    epoch: int
    repeat: int

    def __new__(cls, index: int, epoch: int, repeat: int) -> SampleIndex:
        sample = super().__new__(cls, index)
        sample.epoch, sample.repeat = epoch, repeat
        return sample

    def __reduce__(self) -> tuple[type[SampleIndex], tuple[int, int, int]]:
        return SampleIndex, (int(self), self.epoch, self.repeat)
