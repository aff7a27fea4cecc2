"""The content of the page as one JSON object: facts, tables, pictures, curves."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from basicsr.metrics import calculate_metric
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.models.scores_record import SECONDS, mean_of
from pdan_plugin.report.detail_box import absolute_error, cut, telling_box
from pdan_plugin.report.embedded_pictures import ERROR_RANGE, data_uri, encode_alike, encode_detail, encode_error
from pdan_plugin.report.frame_choice import choose_frames
from pdan_plugin.report.frame_pictures import Frame, FrameReader
from pdan_plugin.report.score_notes import score_notes
from pdan_plugin.report.scored_run import DatasetScores, ScoredRun, metric_options
from pdan_plugin.report.training_curves import draw_curves
from pdan_plugin.training.history import FILE_NAME

_PICTURE_BYTES = 3_000_000  # for all frames together; base64 adds a third
_LEAST_FRAME_BYTES = 60_000


def page_content(runs: Sequence[ScoredRun], *, frames: int, metric: str | None) -> dict[str, Any]:
    """All data for the page's script. Values that are not finite are strings, as in a history.

    Args:
        runs: At least one.
        frames: Number of frames of each data set with pictures.
        metric: The metric that chooses the worst and best; None for ``psnr``, or the first that all runs have.

    Raises:
        RequestError: In every data set, a run lacks the metric.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.datasets))
    known = list(dict.fromkeys(known for run in runs for one in run.datasets.values() for known in one.metrics))
    if metric is not None and metric not in known:
        raise RequestError(f'--metric {metric}: no such metric in these runs; they have {", ".join(known) or "none"}')
    if metric is not None:
        _require_shared(runs, names, metric)
    share = _PICTURE_BYTES // max(1, frames * len(names))
    with tqdm(total=frames * len(names), unit='frame', desc='report') as bar:
        datasets = [
            _dataset([run for run in runs if name in run.datasets], name, frames, metric, share, bar) for name in names
        ]
    return {
        'runs': [{'label': run.label, 'facts': _facts(run)} for run in runs],
        'datasets': datasets,
        'curves': _curves(runs),
        'error_range': round(ERROR_RANGE),
    }


def chosen_metric(scores: Sequence[DatasetScores], metric: str | None) -> str | None:
    """Of the metrics that all runs have: ``metric``, else ``psnr``, else the first; None if there are none."""
    shared = [name for name in scores[0].metrics if all(name in one.metrics for one in scores)]
    return next((name for name in (metric, 'psnr') if name in shared), next(iter(shared), None))


def result_caption(scores: DatasetScores, image: str, metric: str | None) -> float:
    """The image's value of the metric; nan if it has none."""
    row = next((row for row in scores.images if row.image == image), None)
    return math.nan if row is None or metric is None else row.values.get(metric, math.nan)


def bicubic_value(frame: Frame, scores: DatasetScores, metric: str | None) -> float:
    """The PSNR of the enlarged input; nan for other metrics, which would take too long here."""
    options = scores.metrics.get(metric or '', {})
    if options.get('type') != 'calculate_psnr' or frame.enlarged is None or frame.gt is None:
        return math.nan
    call = metric_options(options)
    # the toolbox computes on BGR
    pictures = {'img': frame.enlarged[:, :, ::-1], 'img2': frame.gt[:, :, ::-1]}
    return float(calculate_metric({name: np.ascontiguousarray(one) for name, one in pictures.items()}, call))


def choose_of(
    runs: Sequence[ScoredRun], dataset: str, count: int, metric: str | None, *, among: Sequence[str]
) -> list[tuple[str, str]]:
    """Calls `choose_frames` with the runs' scores of a data set, for the images ``among``."""
    scores = [run.datasets[dataset] for run in runs]
    chosen = chosen_metric(scores, metric)
    values = [] if chosen is None else [{row.image: row.values[chosen] for row in one.images} for one in scores]
    higher = chosen is None or scores[0].higher_is_better(chosen)
    return choose_frames(among, values, count, higher_is_better=higher)


def _require_shared(runs: Sequence[ScoredRun], names: Sequence[str], metric: str) -> None:
    lacking = []
    for name in names:
        own = [run for run in runs if name in run.datasets]
        without = [str(run.folder) for run in own if metric not in run.datasets[name].metrics]
        if not without:
            return
        shared = chosen_metric([run.datasets[name] for run in own], None)
        lacking.append(f'{", ".join(without)} has none on {name}' + (f' (all have {shared})' if shared else ''))
    raise RequestError(f'--metric {metric}: not all runs have it; {"; ".join(lacking)}')


def _facts(run: ScoredRun) -> list[tuple[str, str]]:
    record = run.record
    network = record.get('network') or {}
    options = ', '.join(f'{name} {value}' for name, value in network.items() if name != 'type')
    parameters = record.get('parameters')
    facts = {
        'Network': network.get('type'),
        'Options': options,
        'Parameters': f'{parameters:,}' if isinstance(parameters, int) else parameters,
        'Weights': record.get('weights') or 'none (initial values)',
        'Precision': record.get('precision'),
        'Self-ensemble': 'yes, 8 forms' if record.get('self_ensemble') else 'no',
        'Local pooling, pixels': record.get('local_pooling'),
        'Tiles': record.get('tile') or 'no, whole pictures',
        'Machine': record.get('machine'),
        'Date': record.get('date'),
        'Folder': run.folder,
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, '')]


def _dataset(runs: list[ScoredRun], name: str, count: int, metric: str | None, share: int, bar: tqdm) -> dict[str, Any]:
    scores = [run.datasets[name] for run in runs]
    labelled = {run.label: run.datasets[name] for run in runs}
    metrics: dict[str, bool] = {}
    for one in scores:
        for known in one.metrics:
            metrics.setdefault(known, one.higher_is_better(known))
    images = {row.image: (row.clip, row.frame) for one in scores for row in one.images}
    notes = [
        f'{run.label} has {len(one.images)} of the {len(images)} images; its means are over these'
        for run, one in zip(runs, scores, strict=True)
        if len(one.images) < len(images)
    ]
    reader = FrameReader(runs, name)
    chosen = choose_of(runs, name, count, metric, among=[image for image in images if reader.has_result(image)])
    shown = []
    for image, reason in chosen:
        shown.append(_shown_frame(reader.read(image), runs, name, reason, metric, share))
        bar.update()
    bar.update(count - len(chosen))
    return {
        'name': name,
        'runs': [run.label for run in runs],
        'metrics': [{'name': known, 'higher': higher} for known, higher in metrics.items()],
        'chosen_by': chosen_metric(scores, metric),
        'total': len(images),
        'notes': notes + score_notes(labelled, metric) + reader.notes,
        **_tables(scores, list(metrics), images),
        'frames': [frame for frame in shown if frame['pictures']],
    }


def _tables(scores: list[DatasetScores], metrics: list[str], images: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Rows of names and values; values are nested by metric (then seconds), then by run."""
    rows = [{row.image: row for row in one.images} for one in scores]
    clips: dict[str, list[str]] = {}
    for image, (clip, _) in images.items():
        if clip:
            clips.setdefault(clip, []).append(image)

    def values(some: Sequence[str]) -> list[list[float | str | None]]:
        columns = []
        for column in [*metrics, SECONDS]:
            there = [[run[image] for image in some if image in run] for run in rows]
            columns.append(
                [
                    _as_json(
                        mean_of(row.seconds if column == SECONDS else row.values.get(column, math.nan) for row in run)
                    )
                    for run in there
                ]
            )
        return columns

    return {
        'images': [[image, clip, frame, values([image])] for image, (clip, frame) in images.items()],
        'clips': [[clip, len(some), values(some)] for clip, some in clips.items()],
        'means': values(list(images)),
    }


def _shown_frame(
    frame: Frame, runs: list[ScoredRun], dataset: str, reason: str, metric: str | None, share: int
) -> dict[str, Any]:
    if not frame.results:
        return {'pictures': []}
    scores = {run.label: run.datasets[dataset] for run in runs}
    chosen = chosen_metric(list(scores.values()), metric)
    results = list(frame.results.values())
    width = max(96, results[0].shape[1] // 6)
    reference = frame.gt if frame.gt is not None else frame.enlarged
    box = telling_box(results, reference, width, max(1, round(width * 0.68)))
    wholes = {
        'input': frame.enlarged,
        **{f'run {label}': picture for label, picture in frame.results.items()},
        'gt': frame.gt,
    }
    wholes = {name: picture for name, picture in wholes.items() if picture is not None}
    details = {name: encode_detail(cut(picture, box)) for name, picture in wholes.items()}
    errors: dict[str, tuple[str, str]] = {}
    if frame.gt is not None:
        for name, picture in wholes.items():
            if name != 'gt':
                error = absolute_error(picture, frame.gt)
                errors[name] = encode_error(error), encode_error(cut(error, box))
    spent = sum(map(len, details.values())) + sum(len(uri) for pair in errors.values() for uri in pair)
    encoded = encode_alike(wholes, max(_LEAST_FRAME_BYTES, share - spent * 3 // 4))
    pictures = []
    for name, uri in encoded.uris.items():
        label = {'input': 'Input, bicubic', 'gt': 'Ground truth'}.get(name, name.removeprefix('run '))
        if name == 'input':
            value = bicubic_value(frame, scores[runs[0].label], chosen)
        else:
            value = result_caption(scores[label], frame.image, chosen) if name.startswith('run ') else math.nan
        picture = {'kind': name.partition(' ')[0], 'label': label, 'value': _as_json(value), 'whole': uri}
        picture['detail'] = details[name]
        if name in errors:
            picture['error'], picture['error_detail'] = errors[name]
        pictures.append(picture)
    return {
        'image': frame.image,
        'reason': reason,
        'size': [results[0].shape[1], results[0].shape[0]],
        'box': box,
        'shown_width': encoded.width,
        'quality': encoded.quality,
        'pictures': pictures,
    }


def _curves(runs: Sequence[ScoredRun]) -> list[dict[str, str]]:
    curves = []
    done: set[Path] = set()
    for run in runs:
        history = _history(run)
        if history is None or history in done:
            continue
        done.add(history)
        metrics = {name: one for scores in run.datasets.values() for name, one in scores.metrics.items()}
        lower = [name for name, one in metrics.items() if one.get('better') == 'lower']
        curve = {'label': run.label, 'experiment': history.parent.name}
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder, 'curves.webp')
            try:
                if not draw_curves(history, picture, lower_is_better=lower):
                    continue
                curve['picture'] = data_uri(picture.read_bytes())
            except (RequestError, OSError) as error:  # the page is still useful without curves
                curve['note'] = str(error)
        curves.append(curve)
    return curves


def _history(run: ScoredRun) -> Path | None:
    """``experiments/NAME/history.jsonl`` for weights in ``experiments/NAME/models/``; None if it is not found."""
    weights = run.record.get('weights')
    if not isinstance(weights, str):
        return None
    for root in (
        Path(),
        *run.folder.resolve().parents[1:2],
    ):  # a slice, because a run in the root folder has only one parent
        history = (root / weights).resolve().parent.parent / FILE_NAME
        if history.is_file():
            return history
    return None


def _as_json(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return float(f'{value:.9g}') if math.isfinite(value) else 'Infinity' if value > 0 else '-Infinity'
