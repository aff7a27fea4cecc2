"""The tables and test.json of a test: every image's scores, their means by clip, and the settings of the run.

``results/NAME/DATASET.csv`` has one row per image. ``results/NAME/DATASET_clips.csv`` has one row per clip and a last
row ``mean`` over all images. ``results/NAME/test.json`` describes the run and names the files of each data set.

The PSNR of a perfect picture is infinite, and so is a mean that includes it. The tables have ``inf``. JSON has no
number for it, so test.json has the string "Infinity" (or "NaN"), like the history of a training. A metric with such
values also has ``not_finite``, the number of those images, and ``mean_of_finite``, the mean of the others (null if
there are none).
"""

from __future__ import annotations

import csv
import io
import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from pdan_plugin import __version__
from pdan_plugin.errors import failing_unwritable
from pdan_plugin.files.json_files import json_text
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.machine.accelerators import name_of
from pdan_plugin.machine.cores import processor_name

RECORD = 'test.json'
FIRST_COLUMNS = ('image', 'clip', 'frame')
SECONDS = 'seconds'
MEAN_ROW = 'mean'


@dataclass(frozen=True)
class ScoredImage:
    """One image of a data set: the name of its result, its scores by metric, and the network's time.

    ``clip`` and ``frame`` are empty if the data set has none. ``seconds`` is None if it was not measured.
    """

    name: str
    clip: str
    frame: str
    scores: Mapping[str, float]
    seconds: float | None = None


class ScoresRecord:
    """The record of one test run. Data sets are added one at a time.

    Args:
        folder: results/NAME.
        opt: The run's options, as the toolbox passes them to a model.
        parameters: Number of parameters of the tested network.
        machine: Description of the machine.
    """

    def __init__(self, folder: Path, opt: Mapping[str, Any], *, parameters: int, machine: str) -> None:
        self._folder = folder
        val_opt = opt.get('val') or {}
        self._val_opt = val_opt
        weights = opt['path'].get('pretrain_network_g')
        self._record: dict[str, Any] = {
            'name': opt['name'],
            'date': datetime.now().astimezone().isoformat(timespec='seconds'),
            'weights': None if weights is None else os.path.abspath(weights),
            'network': opt['network_g'],
            'parameters': parameters,
            'machine': machine,
            'versions': versions(),
            'precision': val_opt.get('precision') or 'fp32',
            'self_ensemble': bool(val_opt.get('self_ensemble')),
            'local_pooling': val_opt.get('local_pooling'),
            'tile': val_opt.get('tile'),
            'datasets': {},
        }

    def add(self, dataset_opt: Mapping[str, Any], images: Sequence[ScoredImage], *, pictures: bool) -> None:
        """Writes the tables of a data set and test.json. Each file is written whole or not at all.

        Args:
            dataset_opt: The data set's options.
            images: One or more images, in the data set's order.
            pictures: Whether the result pictures were written.

        Raises:
            WorkError: A file cannot be written.
        """
        name = dataset_opt['name']
        metrics_opt = self._val_opt.get('metrics') or {}
        means = _means(images, list(metrics_opt))
        self._write(f'{name}.csv', _image_table(images, list(metrics_opt)))
        self._write(f'{name}_clips.csv', _clip_table(images, list(metrics_opt)))
        self._record['datasets'][name] = {
            'options': with_absolute_paths(dataset_opt),
            'csv': f'{name}.csv',
            'pictures': f'visualization/{name}' if pictures else None,
            'suffix': self._val_opt.get('suffix') or None,
            'metrics': {
                metric: {
                    **options,
                    'better': options.get('better', 'higher'),
                    'mean': means[metric],
                    **_apart_from_not_finite([image.scores[metric] for image in images]),
                }
                for metric, options in metrics_opt.items()
            },
            'images': len(images),
            'seconds_per_image': means[SECONDS],
        }
        self._write(RECORD, json_text(self._record, default=str))

    def _write(self, name: str, text: str) -> None:
        with failing_unwritable(self._folder / name):
            write_whole(self._folder / name, text)


def reserved_metric_name(metrics_opt: Mapping[str, Any]) -> str | None:
    """The first metric with the name of a column of the tables; None if there is none."""
    return next((name for name in metrics_opt if name in (*FIRST_COLUMNS, SECONDS, 'images')), None)


def mean_of(values: Iterable[float]) -> float:
    """The mean; nan if there are no values, or infinities of both signs among them."""
    values = list(values)
    try:
        return math.fsum(values) / len(values) if values else math.nan
    except (OverflowError, ValueError):
        return math.nan


def with_absolute_paths(dataset_opt: Mapping[str, Any]) -> dict[str, Any]:
    """A data set's options, with the paths of data roots and frame lists made absolute."""
    resolved: dict[str, Any] = {}
    for key, value in dataset_opt.items():
        if isinstance(value, Mapping):
            value = with_absolute_paths(value)
        elif isinstance(value, list):
            value = [with_absolute_paths(each) if isinstance(each, Mapping) else each for each in value]
        if key.startswith(('dataroot', 'meta_info_file')):
            if isinstance(value, (str, Path)):
                value = os.path.abspath(os.path.expanduser(value))
            elif isinstance(value, list):
                value = [os.path.abspath(os.path.expanduser(str(each))) for each in value]
        resolved[key] = value
    return resolved


def machine_in_words(device: torch.device) -> str:
    """The GPU, or the CPU and its number of threads, for readers who compare seconds."""
    return name_of(device) or f'{processor_name()}, {torch.get_num_threads()} threads'


def versions() -> dict[str, str]:
    """The versions of this package, torch and Python."""
    return {'pdan_plugin': __version__, 'torch': torch.__version__, 'python': platform.python_version()}


def _means(images: Sequence[ScoredImage], metrics: Sequence[str]) -> dict[str, float | None]:
    means: dict[str, float | None] = {metric: mean_of([image.scores[metric] for image in images]) for metric in metrics}
    seconds = [image.seconds for image in images if image.seconds is not None]
    means[SECONDS] = mean_of(seconds) if seconds else None
    return means


def _apart_from_not_finite(values: Sequence[float]) -> dict[str, Any]:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) == len(values):
        return {}
    return {'not_finite': len(values) - len(finite), 'mean_of_finite': mean_of(finite) if finite else None}


def _image_table(images: Sequence[ScoredImage], metrics: Sequence[str]) -> str:
    rows = [
        [image.name, image.clip, image.frame, *(image.scores[metric] for metric in metrics), _seconds(image.seconds)]
        for image in images
    ]
    return _table([*FIRST_COLUMNS, *metrics, SECONDS], rows)


def _clip_table(images: Sequence[ScoredImage], metrics: Sequence[str]) -> str:
    clips: dict[str, list[ScoredImage]] = {}
    for image in images:
        if image.clip:
            clips.setdefault(image.clip, []).append(image)
    rows: list[list[Any]] = []
    for clip, own in [*clips.items(), (MEAN_ROW, list(images))]:
        means = _means(own, metrics)
        rows.append([clip, len(own), *(means[metric] for metric in metrics), _seconds(means[SECONDS])])
    return _table(['clip', 'images', *metrics, SECONDS], rows)


def _seconds(value: float | None) -> str:
    return '' if value is None else f'{value:.6f}'


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
