"""Reads a test run from ``results/NAME``: its settings, and the scores of every image.

The sources are ``test.json`` and the ``DATASET.csv`` files it names. Means are computed here from the images' rows.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.models.scores_record import FIRST_COLUMNS, RECORD, SECONDS

_RESULTS = ('better', 'mean', 'not_finite', 'mean_of_finite')


@dataclass(frozen=True)
class ImageScores:
    """A row of ``DATASET.csv``: ``values`` by metric; ``seconds`` of the network alone, nan if not measured."""

    image: str
    clip: str
    frame: str
    values: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class DatasetScores:
    """One data set of a run.

    Attributes:
        options: The data set's options, as `build_dataset` takes them.
        pictures: The folder of restored pictures; None if none were saved.
        suffix: The suffix of each picture's name, without the underscore.
        metrics: Name -> its record: ``better`` ('higher' or 'lower'), ``mean``, and the metric's own options.
        images: In the data set's order.
    """

    name: str
    options: dict[str, Any]
    pictures: Path | None
    suffix: str | None
    metrics: dict[str, dict[str, Any]]
    images: list[ImageScores]

    def picture_path(self, image: str) -> Path | None:
        """The path of the restored picture, which may not exist; None if none were saved."""
        if self.pictures is None:
            return None
        return self.pictures / (f'{image}_{self.suffix}.png' if self.suffix else f'{image}.png')

    def higher_is_better(self, metric: str) -> bool:
        return self.metrics[metric].get('better', 'higher') == 'higher'


@dataclass
class ScoredRun:
    """A test run; ``label`` distinguishes it from the other runs shown."""

    folder: Path
    record: dict[str, Any]
    datasets: dict[str, DatasetScores]
    label: str = field(default='')


def read_runs(folders: Sequence[Path]) -> list[ScoredRun]:
    """Reads the runs and labels them: by name if the names differ, else by folder.

    Raises:
        RequestError: A folder is not a test run, its record or table cannot be read, or a run is given twice.
    """
    if not folders:
        raise RequestError('no run given; give one or more folders, results/NAME')
    runs = [read_run(folder) for folder in folders]
    places = [run.folder.resolve() for run in runs]
    twice = [run for number, run in enumerate(runs) if places[number] in places[:number]]
    if twice:
        raise RequestError(f'{twice[0].folder} is given twice; give each run once')
    for labels in ([str(run.record['name']) for run in runs], [place.name for place in places], map(str, places)):
        for run, label in zip(runs, labels := list(labels), strict=True):
            run.label = label
        if len(set(labels)) == len(labels):
            break
    return runs


def read_run(folder: Path) -> ScoredRun:
    """Reads one run.

    Raises:
        RequestError: See `read_runs`.
    """
    path = folder / RECORD
    if not folder.is_dir():
        raise RequestError(f'{folder}: no such folder; give a folder that basicsr test wrote: results/NAME')
    if not path.is_file():
        raise RequestError(
            f'{path}: no such file; basicsr test writes it after a data set, with model_type: RestorationModel or '
            'one of its kind. Run the test again, with this model_type instead of SRModel'
        )
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        record.setdefault('name', folder.resolve().name)
        record['network'] = dict(record.get('network') or {})
        datasets = {
            str(name): _read_dataset(folder, str(name), section) for name, section in record['datasets'].items()
        }
    except RequestError:
        raise
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise RequestError(
            f'{path} cannot be read as the record of a test ({type(error).__name__}: {error}); run basicsr test again'
        ) from error
    if not datasets:
        raise RequestError(f'{path} has no data set; run basicsr test until one is finished')
    return ScoredRun(folder, record, datasets)


def metric_options(record: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a metric: its record without the results."""
    return {name: value for name, value in record.items() if name not in _RESULTS}


def _read_dataset(folder: Path, name: str, section: dict[str, Any]) -> DatasetScores:
    metrics = {str(metric): dict(record) for metric, record in (section.get('metrics') or {}).items()}
    pictures = section.get('pictures')
    return DatasetScores(
        name=name,
        options=dict(section.get('options') or {}),
        pictures=None if pictures is None else folder / pictures,
        suffix=section.get('suffix'),
        metrics=metrics,
        images=_read_images(folder / section['csv'], list(metrics)),
    )


def _read_images(path: Path, metrics: list[str]) -> list[ImageScores]:
    wanted = [*FIRST_COLUMNS, *metrics, SECONDS]
    try:
        with path.open(encoding='utf-8', newline='') as file:
            rows = csv.reader(file)
            header = next(rows, [])
            missing = [column for column in wanted if column not in header]
            if missing:
                raise RequestError(
                    f'{path}: column {missing[0]!r} is missing; expected {",".join(wanted)}; run basicsr test again'
                )
            lines = [(rows.line_num, dict(zip(header, row, strict=True))) for row in rows if row]
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f'{path} cannot be read: {error}; run basicsr test again') from error
    images: list[ImageScores] = []
    for number, line in lines:
        try:
            images.append(
                ImageScores(
                    *(line[column] for column in FIRST_COLUMNS),
                    values={metric: _number(line[metric]) for metric in metrics},
                    seconds=_number(line[SECONDS]),
                )
            )
        except ValueError as error:
            raise RequestError(f'{path}, line {number}: {error}; run basicsr test again') from error
    return images


def _number(text: str) -> float:
    return float(text) if text.strip() else math.nan
