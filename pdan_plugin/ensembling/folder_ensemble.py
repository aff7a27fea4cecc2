"""Merges the result folders of several models into one folder, and scores them against ground truth.

The output holds ``NAME.png`` for every picture, ``ensemble.json`` (models and settings) and, with ground truth,
``scores.csv``. Every file appears complete. Repeating an interrupted request continues where it stopped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from basicsr.metrics import calculate_psnr, calculate_ssim
from numpy.typing import NDArray
from tqdm import tqdm

from pdan_plugin.data.frame_codec import encode_picture
from pdan_plugin.ensembling.patch_ensemble import GRID, patch_weights, plain_mean, weighted_mean
from pdan_plugin.ensembling.result_folders import GroundTruth, Pictures, check_match, find_results, open_ground_truth
from pdan_plugin.errors import RequestError, failing_unwritable, refusing_unwritable
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS

Merge = Literal['mean', 'patches', 'blended']
MERGES: dict[Merge, str] = {'mean': 'plain mean', 'patches': 'patches, hard edges', 'blended': 'patches, blended'}

RECORD, SCORES = 'ensemble.json', 'scores.csv'
_SCORED = 'ground_truth'
_MEASURES = ('psnr', 'ssim')
_SSIM_WINDOW = 11


@dataclass
class Ensemble:
    """The outcome of `merge_folders`.

    Attributes:
        output: The folder written.
        pictures: Number of pictures to merge.
        failures: Name of a picture that was not merged -> reason.
        scores: With ground truth: name -> method -> (PSNR in dB, SSIM), RGB, no border cropped. Methods are the models'
            labels, then the keys of ``MERGES``.
    """

    output: Path
    pictures: int
    failures: dict[str, str] = field(default_factory=dict)
    scores: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def table(self) -> str:
        """A table of means over the scored pictures; the last column is the gain over the best single model."""
        methods = list(next(iter(self.scores.values())))
        means = {method: np.mean([row[method] for row in self.scores.values()], axis=0) for method in methods}
        best = max(means[method][0] for method in methods if method not in MERGES)
        in_words: dict[str, str] = {**MERGES}
        titles = {method: in_words.get(method, method) for method in methods}
        width = max(map(len, titles.values()))
        lines = [f'{"":{width}}   PSNR    SSIM    against the best model']
        for method, title in titles.items():
            psnr, ssim = means[method]
            lines.append(f'{title:{width}}  {psnr:6.3f}  {ssim:.4f}  {psnr - best:+.3f} dB')
        return '\n'.join([*lines, f'mean over {len(self.scores)} pictures, RGB, no border cropped'])


def merge_folders(
    folders: Sequence[Path],
    output: Path,
    *,
    merge: Merge = 'patches',
    sharpness: str = 'tenengrad',
    grid: int = GRID,
    ground_truth: Path | None = None,
) -> Ensemble:
    """Merges pictures of the same name from several models; with ground truth, scores the models and all merges.

    Args:
        folders: Two or more folders of 8-bit RGB PNGs; see :func:`~pdan_plugin.ensembling.result_folders.find_results`.
        output: A new folder, or one of an earlier run of the same request.
        merge: The merge to write: the plain mean, the paper's patches, or patches with blended weights.
        sharpness: The key in ``FOCUS_FUNCTIONS`` of the function that weights patches.
        grid: Number of patches along each side.
        ground_truth: A store, a folder of clips, or a folder of PNGs.

    Returns:
        The outcome. A damaged picture is listed in its failures; the others are merged.

    Raises:
        RequestError: The folders do not fit together, or the output holds something else; nothing was written.
        WorkError: Writing to the output failed.
    """
    if len(folders) < 2:
        raise RequestError('an ensemble needs the results of at least two models; give another folder')
    models = find_results(folders, reserved=MERGES)
    truth = open_ground_truth(ground_truth) if ground_truth is not None else None
    names = check_match(models, truth)
    if truth is not None:
        _check_scorable(models[0], names)
    settings = {'merge': merge, 'sharpness': sharpness, 'grid': grid}
    _begin(output, {'models': {model.label: str(model.folder.resolve()) for model in models}, **settings}, truth)
    ensemble = Ensemble(output, len(names))
    methods = [*(model.label for model in models), *MERGES]
    earlier = _read_scores(output / SCORES, methods) if truth is not None else {}
    scored_at = (output / SCORES).stat().st_mtime_ns if earlier else 0
    for name in tqdm(names, unit='picture', desc='merging'):
        target = output / f'{name}.png'
        newest = max(model.modified(name) for model in models)
        is_merged = target.is_file() and target.stat().st_mtime_ns >= newest
        if truth is None and is_merged:
            continue
        if is_merged and truth is not None and name in earlier and scored_at >= max(newest, truth.modified(name)):
            ensemble.scores[name] = earlier[name]
            continue
        try:
            pictures = [model.read(name) for model in models]
            true = truth.read(name) if truth is not None else None
        except RequestError as error:
            ensemble.failures[name] = str(error)
            continue
        merged = _merged(pictures, sharpness, grid, list(MERGES) if truth is not None else [merge])
        if not is_merged:
            _put(target, encode_picture(merged[merge], 'png'))
        if true is not None:
            ensemble.scores[name] = {
                method: (
                    round(float(calculate_psnr(picture, true, crop_border=0)), 6),
                    round(float(calculate_ssim(picture, true, crop_border=0)), 6),
                )
                for method, picture in zip(methods, [*pictures, *(merged[key] for key in MERGES)], strict=True)
            }
            _put(output / SCORES, _scores_text(ensemble.scores, methods))
    return ensemble


def _merged(
    pictures: Sequence[NDArray[np.uint8]], sharpness: str, grid: int, wanted: Sequence[Merge]
) -> dict[Merge, NDArray[np.uint8]]:
    merged: dict[Merge, NDArray[np.uint8]] = {}
    if 'mean' in wanted:
        merged['mean'] = plain_mean(pictures)
    if 'patches' in wanted or 'blended' in wanted:
        weights = patch_weights(pictures, FOCUS_FUNCTIONS[sharpness], grid)
        for merge in ('patches', 'blended'):
            if merge in wanted:
                merged[merge] = weighted_mean(pictures, weights, blend=merge == 'blended')
    return merged


def _check_scorable(model: Pictures, names: Sequence[str]) -> None:
    small = [name for name in names if min(model.shape(name)[:2]) < _SSIM_WINDOW]
    if small:
        raise RequestError(
            f'{len(small)} of {len(names)} pictures, such as {small[0]}, are smaller than the '
            f'{_SSIM_WINDOW}x{_SSIM_WINDOW} window of SSIM; merge them without ground truth'
        )


def _begin(output: Path, request: dict[str, Any], truth: GroundTruth | None) -> None:
    """Records this request in the output folder; removes scores against another ground truth.

    Raises:
        RequestError: The folder holds other pictures, or cannot be written.
    """
    record = output / RECORD
    if output.exists() and not output.is_dir():
        raise RequestError(f'{output} is a file; an ensemble needs a folder')
    there: dict[str, Any] = {}
    if record.is_file():
        try:
            there = dict(json.loads(record.read_text(encoding='utf-8')))
        except (TypeError, ValueError) as error:
            raise RequestError(
                f'{record} cannot be read ({error}); remove {output} or choose another folder'
            ) from error
        differing = [key for key in request if there.get(key) != request[key]]
        if differing:
            raise RequestError(
                f'{output} holds an ensemble of another request ({", ".join(differing)} differ; see {record}); choose '
                'another folder (-o), or remove this one'
            )
    elif output.is_dir() and any(output.glob('*.png')):
        raise RequestError(f'{output} already holds pictures; choose a new folder (-o)')
    scored = there.get(_SCORED) if truth is None else str(truth.place.resolve())
    if there == (wanted := {**request, _SCORED: scored}):
        return
    with refusing_unwritable(record):
        if there.get(_SCORED) != scored:
            (output / SCORES).unlink(missing_ok=True)
        write_json(record, wanted, durable=True)


def _read_scores(path: Path, methods: Sequence[str]) -> dict[str, dict[str, tuple[float, float]]]:
    """The scores of an earlier run; empty if there is no file.

    Raises:
        RequestError: The file is not a table of this ensemble.
    """
    if not path.is_file():
        return {}
    try:
        with open(path, encoding='utf-8', newline='') as file:
            reader = csv.reader(file)
            if next(reader, None) != _columns(methods):
                raise ValueError('other columns')
            rows = {name: [float(value) for value in values] for name, *values in reader}
        return {
            name: dict(zip(methods, zip(row[::2], row[1::2], strict=True), strict=True)) for name, row in rows.items()
        }
    except ValueError as error:
        raise RequestError(
            f'{path} is not a table of this ensemble ({error}); remove it and repeat the command'
        ) from error


def _columns(methods: Sequence[str]) -> list[str]:
    return ['image', *(f'{method}_{measure}' for method in methods for measure in _MEASURES)]


def _scores_text(scores: dict[str, dict[str, tuple[float, float]]], methods: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(_columns(methods))
    writer.writerows([name, *(value for method in methods for value in row[method])] for name, row in scores.items())
    return text.getvalue()


def _put(path: Path, content: bytes | str) -> None:
    with failing_unwritable(path):
        write_whole(path, content)
