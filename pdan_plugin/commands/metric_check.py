"""Tries the metrics of a run on pictures without content, before the first iteration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY

from pdan_plugin.commands.data_check import DataFacts
from pdan_plugin.commands.picture_check import size_in_words
from pdan_plugin.commands.trial import as_request
from pdan_plugin.errors import RequestError
from pdan_plugin.metrics.noted_once import trial_of_metrics
from pdan_plugin.option_schema.constructors import find_registered, is_own

_LARGEST = 256  # pixels per side, beside those that are cropped


def check_metrics(metrics: Mapping[str, Mapping[str, Any]], data: Sequence[DataFacts], path: str) -> None:
    """Scores a pair of the size of each first sample with each metric of the toolbox and of this package.

    A metric that computes on a device computes on the CPU here, where ``prepare`` has loaded its network. A warning
    names the smallest picture of a data set, if it has no value.

    Args:
        metrics: ``val.metrics``.
        data: The facts of the data sets.
        path: The option file, for messages.

    Raises:
        RequestError: A metric rejects its options, or has no value for the first pictures.
    """
    scored = [facts for facts in data if facts.phase != 'train']
    shapes = {facts.gt_shape[-3:] for facts in scored if facts.gt_shape is not None}
    for name, options in metrics.items():
        metric = find_registered(METRIC_REGISTRY, options.get('type'))
        if metric is None or not is_own(metric):
            continue
        asked = {key: value for key, value in options.items() if key != 'type'}
        if 'device' in asked:
            asked['device'] = 'cpu'
        where = f'{path}: val.metrics.{name}'
        for channels, *size in sorted(shapes):
            with as_request(f'{where}: pictures of {size_in_words(size)} cannot be scored'):
                if hasattr(metric, 'refuse_small'):
                    metric.refuse_small(*size, **asked)
                value = _tried(metric, channels, size, asked)
            if math.isnan(value):
                raise RequestError(
                    f'{where}: pictures of {size_in_words(size)} have no value; crop_border: '
                    f'{asked.get("crop_border")} leaves nothing of them, or they are too small for it'
                )
        for facts in scored:
            _warn_of_smallest(metric, facts, asked, where)


def _warn_of_smallest(metric: Any, facts: DataFacts, asked: Mapping[str, Any], where: str) -> None:
    channels, *first = facts.gt_shape[-3:] if facts.gt_shape is not None else (3, 0, 0)
    size = min(facts.gt_sizes, key=lambda size: (min(size), size), default=None)
    if size is None or list(size) == first:
        return
    with as_request(f'{where}: {facts.gt_sizes[size]}, {size_in_words(size)}, cannot be scored'):
        value = _tried(metric, channels, size, asked)
    if math.isnan(value):
        get_root_logger().warning(
            f'{where}: {facts.gt_sizes[size]}, {size_in_words(size)}, is too small for it and will be scored as nan, '
            'and so will the mean over its data set; take such pictures out of the data set, or another metric'
        )


def _tried(metric: Any, channels: int, size: Sequence[int], asked: Mapping[str, Any]) -> float:
    with warnings.catch_warnings(), trial_of_metrics():
        warnings.simplefilter('ignore')  # of NumPy, about a mean of nothing
        return metric(**_pair(channels, size, asked.get('crop_border')), **asked)


def _pair(channels: int, size: Sequence[int], border: Any) -> dict[str, Any]:
    cropped = 2 * border if isinstance(border, int) and border > 0 else 0
    height, width = (min(side, _LARGEST + cropped) for side in size)
    shape = (height, width) if channels == 1 else (height, width, channels)
    img, img2 = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    return {'img': img, 'img2': img2}
