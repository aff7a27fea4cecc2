"""Draws a figure in the paper's style: the whole input with a box, and that crop of input, methods and truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.report.detail_box import Box, cut, telling_box
from pdan_plugin.report.frame_choice import DIFFERING
from pdan_plugin.report.frame_pictures import Frame, FrameReader
from pdan_plugin.report.page_content import bicubic_value, choose_of, chosen_metric, result_caption
from pdan_plugin.report.scored_run import ScoredRun, read_runs

_SUFFIXES = ('.png', '.pdf', '.svg', '.jpg', '.jpeg')
_WIDTH = 10.0  # inches
_LABEL, _GAP = 0.34, 0.08
_DPI = 200
_INK, _BOX = '#111111', '#ffd000'


@dataclass(frozen=True)
class Figure:
    """The figure drawn: the image's name, and the crop in pixels of the result."""

    image: str
    box: Box


def write_figure(
    runs: Sequence[Path],
    output: Path,
    *,
    image: str | None = None,
    box: Box | None = None,
    metric: str | None = None,
    dataset: str | None = None,
) -> Figure:
    """Draws the figure; the file is replaced as a whole or not at all.

    Args:
        runs: Folders that ``basicsr test`` wrote, in the order of the methods, your own last.
        output: The figure; its ending gives the format.
        image: The image; None for the one on which the runs' values differ most (one run: the worst).
        box: The crop; None for the place where the runs' pictures differ most (one run: from the input).
        metric: The metric under the crops; None for ``psnr``, or the first that all runs have.
        dataset: The data set; None if the runs share exactly one.

    Raises:
        RequestError: A run lacks the data set, image, metric or picture, or the box is not inside the picture.
        OSError: The file cannot be written.
    """
    if output.suffix.lower() not in _SUFFIXES:
        raise RequestError(f'{output}: unknown figure format; give a file name that ends in {", ".join(_SUFFIXES)}')
    read = read_runs(runs)
    name = _dataset_name(read, dataset)
    scores = [run.datasets[name] for run in read]
    if metric is not None:
        for run, one in zip(read, scores, strict=True):
            if metric not in one.metrics:
                known = ', '.join(one.metrics) or 'none'
                raise RequestError(f'--metric {metric}: {run.folder} does not have it on {name}; it has {known}')
    held = [{row.image for row in one.images} for one in scores]
    shared = [row.image for row in scores[0].images if all(row.image in images for images in held)]
    if image is None:
        image = _choose(read, name, metric, shared)
    elif image not in shared:
        raise RequestError(f'--image {image}: not all runs have it on {name}; they share {some_of(shared, 4)}')
    reader = FrameReader(read, name)
    frame = reader.read(image)
    missing = [run.label for run in read if run.label not in frame.results]
    if missing:
        raise RequestError(f'{image}: no picture of {", ".join(missing)}: {"; ".join(reader.notes)}')
    if frame.enlarged is None:
        raise RequestError(f'{image}: a figure needs the input. {"; ".join(reader.notes)}')
    box = _checked_box(frame, box)
    _draw(frame, read, name, box, metric, output)
    return Figure(image, box)


def _dataset_name(runs: Sequence[ScoredRun], wanted: str | None) -> str:
    shared = [name for name in runs[0].datasets if all(name in run.datasets for run in runs)]
    if wanted is not None and wanted not in shared:
        raise RequestError(f'--dataset {wanted}: not all runs have it; they share {", ".join(shared) or "none"}')
    if wanted is None and len(shared) != 1:
        advice = f'choose one with --dataset: {", ".join(shared)}' if shared else 'give runs on the same data set'
        raise RequestError(f'the runs share {len(shared)} data sets; {advice}')
    return wanted or shared[0]


def _choose(runs: Sequence[ScoredRun], name: str, metric: str | None, shared: Sequence[str]) -> str:
    if not shared:
        raise RequestError(f'the runs share no image of {name}; give runs on the same images')
    chosen = choose_of(runs, name, 3, metric, among=shared)
    order = [image for image, reason in chosen if reason == DIFFERING] + [image for image, _ in chosen]
    return next((image for image in order if image in shared), shared[0])


def _checked_box(frame: Frame, box: Box | None) -> Box:
    results = list(frame.results.values())
    height, width = results[0].shape[:2]
    if box is None:
        wide = max(min(width, 48), width // 7)
        return telling_box(results, frame.enlarged, wide, max(1, round(wide * 0.75)))
    if box[0] + box[2] > width or box[1] + box[3] > height:
        raise RequestError(f'--box {",".join(map(str, box))} is not inside the {width}x{height} of {frame.image}')
    return box


def _draw(frame: Frame, runs: Sequence[ScoredRun], dataset: str, box: Box, metric: str | None, output: Path) -> None:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.patches import Rectangle

    assert frame.enlarged is not None
    cells = _cells(frame, runs, dataset, box, metric)
    columns = math.ceil(len(cells) / 2)
    rows = 2 if len(cells) > 1 else 1
    whole_ratio = frame.enlarged.shape[0] / frame.enlarged.shape[1]
    cell_ratio = box[3] / box[2]
    # the whole picture is as high as the rows of crops with labels, and together they fill the width
    fixed = rows * _LABEL + (rows - 1) * _GAP - _LABEL
    cell = (_WIDTH - columns * _GAP - fixed / whole_ratio) / (columns + rows * cell_ratio / whole_ratio)
    if cell < 0.4:
        raise RequestError(f'a box of {box[2]}x{box[3]} is too tall for the figure; give a lower one')
    high = rows * (cell * cell_ratio + _LABEL) + (rows - 1) * _GAP
    wide = _WIDTH - columns * (cell + _GAP)
    canvas = Canvas(figsize=(_WIDTH + 2 * _GAP, high + 2 * _GAP), dpi=_DPI, facecolor='white')
    total_wide, total_high = _WIDTH + 2 * _GAP, high + 2 * _GAP

    def add(picture: np.ndarray, left: float, top: float, width: float, height: float, smooth: bool):
        axes = canvas.add_axes(
            (left / total_wide, 1 - (top + height) / total_high, width / total_wide, height / total_high)
        )
        axes.imshow(picture, interpolation='antialiased' if smooth else 'nearest', aspect='auto')
        axes.set_axis_off()
        return axes

    def write(text: str, centre: float, top: float, room: float, bold: bool = False) -> None:
        size = min(9.0, 9.0 * room / max(0.01, 0.068 * len(text)))
        canvas.text(
            centre / total_wide, 1 - (top + _LABEL / 2) / total_high, text, ha='center', va='center', fontsize=size,
            fontweight='bold' if bold else 'normal', color=_INK, parse_math=False,
        )  # fmt: skip

    axes = add(frame.enlarged, _GAP, _GAP, wide, high - _LABEL, smooth=True)
    axes.add_patch(Rectangle((box[0] - 0.5, box[1] - 0.5), box[2], box[3], fill=False, edgecolor=_BOX, linewidth=1.6))
    write(f'{frame.image}, input', _GAP + wide / 2, _GAP + high - _LABEL, wide)
    for number, (picture, text, bold) in enumerate(cells):
        row, column = divmod(number, columns)
        left = _GAP + wide + _GAP + column * (cell + _GAP)
        top = _GAP + row * (cell * cell_ratio + _LABEL + _GAP)
        add(picture, left, top, cell, cell * cell_ratio, smooth=False)
        write(text, left + cell / 2, top + cell * cell_ratio, cell + _GAP, bold)
    with written_whole(output) as unfinished:
        canvas.savefig(unfinished)


def _cells(
    frame: Frame, runs: Sequence[ScoredRun], dataset: str, box: Box, metric: str | None
) -> list[tuple[np.ndarray, str, bool]]:
    """(crop, label, whether it is the best) for the input, the methods in order, and the truth."""
    scores = {run.label: run.datasets[dataset] for run in runs}
    first = scores[runs[0].label]
    chosen = chosen_metric(list(scores.values()), metric)
    values = {label: result_caption(one, frame.image, chosen) for label, one in scores.items()}
    known = [value for value in values.values() if not math.isnan(value)]
    best = None
    if chosen is not None and len(known) > 1:
        best = max(known) if first.higher_is_better(chosen) else min(known)
    assert frame.enlarged is not None
    cells = [(cut(frame.enlarged, box), _label('bicubic', bicubic_value(frame, first, chosen), chosen), False)]
    cells += [
        (cut(picture, box), _label(label, values[label], chosen), values[label] == best)
        for label, picture in frame.results.items()
    ]
    if frame.gt is not None:
        cells.append((cut(frame.gt, box), 'ground truth', False))
    return [(_enlarged_pixels(picture), label, bold) for picture, label, bold in cells]


def _label(name: str, value: float, metric: str | None) -> str:
    if math.isnan(value) or metric is None:
        return name
    return f'{name}  {value:.2f} dB' if metric.lower() == 'psnr' else f'{name}  {value:.4f}'


def _enlarged_pixels(picture: np.ndarray) -> np.ndarray:
    """Enlarges pixels four times, so that viewers of PDF and SVG do not smooth them."""
    return cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
