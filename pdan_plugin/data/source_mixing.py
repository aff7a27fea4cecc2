"""Mixes several sets of frames by weight: decides the order of the frames.

The order depends only on the position in the run, that is the number of samples all ranks have used. So the ratio is
exact even if a run is stopped often. A run resumed with another batch size or number of ranks counts its position in
its new batches. The ratio still holds, but some frames are repeated early and others late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from basicsr.data.data_sampler import EnlargedSampler

from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.seeded_bytes import seeded_bytes

_LONGEST_PATTERN = 1_000_000


def whole_weights(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the ratio of the weights: 0.5 and 1.5 are 1 and 3.

    Raises:
        ValueError: A weight is not above zero, or the whole numbers would add up to more than a million.

    >>> whole_weights([0.5, 1.5])
    [1, 3]
    """
    if not all(math.isfinite(weight) and weight > 0 for weight in weights):
        raise ValueError(f'weights must be numbers above zero, got {", ".join(map(str, weights))}')
    exact = [Fraction(str(weight)) for weight in weights]
    multiple = math.lcm(*(one.denominator for one in exact))
    whole = [int(one * multiple) for one in exact]
    divisor = math.gcd(*whole)
    whole = [one // divisor for one in whole]
    if sum(whole) > _LONGEST_PATTERN:
        raise ValueError(
            f'weights {", ".join(map(str, weights))} repeat only after {sum(whole)} samples; round them '
            f'(at most {_LONGEST_PATTERN})'
        )
    return whole


class MixingSampler(EnlargedSampler):
    """The toolbox's sampler, for a data set that concatenates several sources.

    Of every ``sum(weights)`` samples of a run, in training order over all ranks, each source gets exactly its weight,
    spread evenly; the count continues across epochs. A source uses all its frames once, in random order, before it
    repeats any. An epoch has as many samples as without weights.

    Args:
        dataset: The whole data set.
        sizes: Frames of each source; they add up to ``len(dataset)``.
        weights: Whole numbers (`whole_weights`).
        num_replicas: Ranks.
        rank: This one.
        ratio: The toolbox's ``dataset_enlarge_ratio``.
        seed: Of the random orders.
    """

    def __init__(
        self,
        dataset: Any,
        sizes: Sequence[int],
        weights: Sequence[int],
        *,
        num_replicas: int,
        rank: int,
        ratio: float = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas, rank, ratio)
        self._sizes, self._weights, self._seed = list(sizes), list(weights), seed
        self._begins = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._pattern, self._earlier = _pattern(self._weights)

    def describe(self) -> str:
        """The mixture in words, for the log."""
        total = sum(self._weights)
        return ', '.join(
            f'{weight} of {total} samples from {size} frames'
            for size, weight in zip(self._sizes, self._weights, strict=True)
        )

    def __iter__(self) -> Iterator[SampleIndex]:
        # The trainer sets both: the samples of an epoch that this rank had used when its run was stopped, and the
        # samples of an epoch that are trained on, without the incomplete batch at its end.
        samples_used: dict[int, int] = getattr(self, 'samples_used', {})
        used = samples_used.get(self.epoch, 0)
        begin = self.epoch * getattr(self, 'samples_an_epoch', self.total_size)
        steps = np.arange(used, self.num_samples)
        # Each step takes one sample per rank. Whenever the same part of the pattern would reach the same rank again,
        # the ranks swap places; otherwise a rank might never see one of the sources.
        repeats = len(self._pattern) // math.gcd(len(self._pattern), self.num_replicas)
        places = steps * self.num_replicas + (self.rank + steps // repeats) % self.num_replicas
        rounds, places = np.divmod(begin + places, len(self._pattern))
        sources = self._pattern[places]
        counts = rounds * np.asarray(self._weights)[sources] + self._earlier[places]
        passes, turns = np.divmod(counts, np.asarray(self._sizes)[sources])
        frames = np.empty_like(turns)
        for source in range(len(self._sizes)):
            mine = np.flatnonzero(sources == source)
            mine = mine[np.argsort(passes[mine], kind='stable')]
            numbers, begins = np.unique(passes[mine], return_index=True)
            for number, chosen in zip(numbers, np.split(mine, begins[1:]), strict=True):
                frames[chosen] = self._begins[source] + self._order(source, int(number))[turns[chosen]]
        # The pass over the source is the sample's epoch, so no frame gets the same crop twice.
        return map(SampleIndex, frames.tolist(), passes.tolist(), [0] * len(steps))

    def _order(self, source: int, number: int) -> np.ndarray:
        """The order of a source's frames in its ``number``-th pass."""
        drawn = int.from_bytes(seeded_bytes(16, self._seed, source, number, purpose='mixing'), 'little')
        return np.random.Generator(np.random.PCG64(drawn)).permutation(self._sizes[source])


def _pattern(weights: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The source at each place of the repeating pattern, and how many samples of that source come before it."""
    sources = np.repeat(np.arange(len(weights)), weights)
    earlier = np.concatenate([np.arange(weight) for weight in weights])
    # The ideal place of the n-th of w samples is the middle of the n-th of w equal parts.
    ideal = (earlier + 0.5) / np.asarray(weights)[sources]
    order = np.lexsort((sources, ideal))
    return sources[order], earlier[order]
