"""Chooses the frames to show: the worst, the best, and those on which runs differ most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pdan_plugin.report.picture_sheet import evenly_spread

WORST, BEST, DIFFERING, SPREAD, ONLY = 'worst', 'best', 'differing', 'spread', 'only'


def choose_frames(
    images: Sequence[str], values: Sequence[Mapping[str, float]], count: int, *, higher_is_better: bool
) -> list[tuple[str, str]]:
    """Chooses up to ``count`` different frames; returns (image, reason) for each.

    One run: half the worst, half the best. Several runs: a third each of the worst (by the mean over the runs), the
    best, and those with the largest difference between the runs. Without values, frames are spread over the data set.

    Args:
        images: In the data set's order.
        values: For each run, image -> value; images without a value, or with nan, are skipped.
        count: The number of frames.
        higher_is_better: Whether a higher value is better.
    """
    if len(images) == 1:
        return [(image, ONLY) for image in images[:count]]
    scored = {image: [run[image] for run in values if image in run and not math.isnan(run[image])] for image in images}
    shared = [image for image in images if scored[image] and len(scored[image]) == len(values)]
    if not shared:
        return [(image, SPREAD) for image in evenly_spread(images, count)] if images and count else []

    def goodness(image: str) -> float:
        middle = sum(scored[image]) / len(scored[image])
        return middle if higher_is_better else -middle

    def distance(image: str) -> float:
        gap = max(scored[image]) - min(scored[image])
        return -gap if math.isfinite(gap) else 0.0

    ascending = sorted(shared, key=goodness)
    orders = {WORST: ascending, BEST: ascending[::-1]}
    if len(values) > 1:
        orders[DIFFERING] = sorted(shared, key=distance)
    count = min(count, len(shared))
    chosen: dict[str, str] = {}
    while len(chosen) < count:
        for reason, order in orders.items():
            if len(chosen) < count:
                chosen[next(image for image in order if image not in chosen)] = reason
    return [(image, reason) for reason, order in orders.items() for image in order if chosen.get(image) == reason]
