"""The record of each run, ``OUTPUT/runs/NAME.json``: its settings, its training time and its scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError, failing_unwritable
from pdan_plugin.files.json_files import json_numbers, write_json
from pdan_plugin.models.scores_record import mean_of
from pdan_plugin.report.scored_run import read_run

FOLDER = 'runs'
SCORE_AGAIN = 'score_again'  # this key marks a run to be scored again; it keeps its old scores until then


def read_record(output: Path, name: str) -> dict[str, Any] | None:
    """The record of a run; None if it was never begun.

    Raises:
        RequestError: It is damaged.
    """
    path = output / FOLDER / f'{name}.json'
    if not path.is_file():
        return None
    try:
        record = json_numbers(json.loads(path.read_text(encoding='utf-8')))
        if not {'name', 'rows', 'seed', 'attempts', 'trained', 'test'} <= set(record):
            raise ValueError('keys are missing')
    except (OSError, TypeError, ValueError) as error:
        raise RequestError(
            f'{path} cannot be read as the record of a run ({error}); restore the file, or remove it: the training '
            'then continues from its last state and is scored again'
        ) from error
    return record


def read_records(output: Path) -> dict[str, dict[str, Any]]:
    """The record of every run in the folder, by its name.

    Raises:
        RequestError: One is damaged.
    """
    names = sorted(path.stem for path in (output / FOLDER).glob('*.json'))
    return {name: record for name in names if (record := read_record(output, name)) is not None}


def has_scores(record: Mapping[str, Any] | None) -> bool:
    """Whether a run is trained and scored, even if it is to be scored again."""
    return record is not None and record['test'] is not None


def is_done(record: Mapping[str, Any] | None) -> bool:
    """Whether nothing is left to do for a run."""
    return record is not None and has_scores(record) and SCORE_AGAIN not in record


def write_record(output: Path, record: dict[str, Any]) -> None:
    """Writes the record whole, or keeps the old one.

    Raises:
        WorkError: It cannot be written.
    """
    path = output / FOLDER / f'{record["name"]}.json'
    with failing_unwritable(path):
        write_json(path, record, durable=True)


def training_seconds(record: dict[str, Any]) -> tuple[float | None, bool]:
    """Training time in seconds, and whether it was not interrupted; work repeated after a kill counts twice."""
    seconds = [each['seconds'] for each in record['attempts']]
    known = [each for each in seconds if each is not None]
    return (math.fsum(known) if known else None), len(seconds) == 1


def scores_of_test(folder: Path) -> dict[str, Any]:
    """The results of a test of one data set, in the form of a record: means over all images and by clip.

    Raises:
        RequestError: The folder holds no such results.
    """
    run = read_run(folder)
    if len(run.datasets) != 1:
        raise RequestError(f'{folder}: expected a test of one data set, found {", ".join(run.datasets)}')
    data = next(iter(run.datasets.values()))
    clips: dict[str, list] = {}
    for image in data.images:
        clips.setdefault(image.clip, []).append(image)
    return {
        'dataset': data.name,
        'images': len(data.images),
        'mean': {metric: mean_of(image.values[metric] for image in data.images) for metric in data.metrics},
        'clips': {
            clip: {metric: mean_of(image.values[metric] for image in images) for metric in data.metrics}
            for clip, images in clips.items()
        },
        'seconds_per_image': mean_of(image.seconds for image in data.images if not math.isnan(image.seconds)),
        'parameters': run.record['parameters'],
        'network': run.record['network'],
        'machine': run.record['machine'],
        'versions': run.record['versions'],
        'precision': run.record.get('precision'),
    }
