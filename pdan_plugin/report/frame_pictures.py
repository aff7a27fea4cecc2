"""Reads the pictures of a frame: the input, the result of each run, the ground truth.

Pictures are (h, w, 3) uint8 RGB. ``notes`` reports missing pictures, once for each reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pdan_plugin.errors import some_of
from pdan_plugin.media.picture_files import PictureFileError, read_as_shown
from pdan_plugin.models.result_names import result_name
from pdan_plugin.report.picture_sheet import enlarge
from pdan_plugin.report.scored_run import DatasetScores, ScoredRun

_LISTED = 4


@dataclass
class Frame:
    """A frame's pictures.

    Attributes:
        image: Its name.
        lr: The input of the network, at its own size.
        enlarged: ``lr`` at the results' size, by MATLAB's bicubic.
        results: Label of the run -> picture. All have the size of ``gt`` and ``enlarged``.
        gt: The ground truth.
    """

    image: str
    lr: np.ndarray | None = None
    enlarged: np.ndarray | None = None
    gt: np.ndarray | None = None
    results: dict[str, np.ndarray] = field(default_factory=dict)


class FrameReader:
    """Reads the frames of one data set in several runs.

    Args:
        runs: Runs that all have the data set.
        dataset: Its name.
    """

    def __init__(self, runs: Sequence[ScoredRun], dataset: str) -> None:
        self._runs = {run.label: run.datasets[dataset] for run in runs}
        self._missing: dict[str, list[str]] = {}
        self._places: dict[str, int] = {}
        self._roots: list[str | None] = []
        self._source: Any = None
        self._open()
        for label, scores in self._runs.items():
            if scores.pictures is None:
                self._missing[f'{label} saved no pictures (val: save_img: false)'] = []
                continue
            for row in scores.images:
                if self._file(label, row.image) is None:
                    self._miss(f'{label}: pictures no longer in {scores.pictures}', row.image)

    @property
    def notes(self) -> list[str]:
        """What could not be shown and why, for the frames read so far."""
        lines = []
        for reason, images in self._missing.items():
            lines.append(reason + (f': {some_of(images, _LISTED)}' if images else ''))
        return lines

    def has_result(self, image: str) -> bool:
        """Whether any run has a picture of it, readable or not."""
        return any(self._file(label, image) is not None for label in self._runs)

    def read(self, image: str) -> Frame:
        """Reads those of the frame's pictures that exist."""
        frame = Frame(image)
        self._read_source(frame)
        for label in self._runs:
            path = self._file(label, image)
            if path is None:
                continue
            try:
                picture = read_as_shown(path)
            except (OSError, PictureFileError):
                self._miss(f'{label}: cannot be read as pictures, in {path.parent}', image)
                continue
            size = frame.gt if frame.gt is not None else next(iter(frame.results.values()), picture)
            if picture.shape != size.shape:
                self._miss(
                    f'{label} has {picture.shape[1]}x{picture.shape[0]}, expected {size.shape[1]}x{size.shape[0]}, and '
                    'is left out',
                    image,
                )
                continue
            frame.results[label] = picture
        self._enlarge(frame)
        return frame

    def _file(self, label: str, image: str) -> Path | None:
        path = self._runs[label].picture_path(image)
        return path if path is not None and path.is_file() else None

    def _miss(self, reason: str, image: str) -> None:
        images = self._missing.setdefault(reason, [])
        if image not in images:
            images.append(image)

    def _open(self) -> None:
        """Builds the data set from the first run's options that still work."""
        reasons: dict[str, str] = {}
        for label, scores in self._runs.items():
            if 'type' not in scores.options:
                reasons[label] = 'test.json does not hold its options'
                continue
            try:
                self._source = _build(scores)
            except Exception as error:  # a data set of any plugin may fail in any way
                reasons[label] = ' '.join(str(error).split()) or type(error).__name__
                continue
            if len(self._source) != len(scores.images):
                reasons[label] = f'it has {len(self._source)} images now, but had {len(scores.images)} in the test'
                self._source = None
                continue
            self._roots = _roots(scores.options)
            self._places = {row.image: number for number, row in enumerate(scores.images)}
            self._note_other_data(label)
            return
        label, reason = next(iter(reasons.items()))
        self._missing[f'The data set can no longer be read, so input and ground truth are not shown ({reason})'] = []

    def _note_other_data(self, chosen: str) -> None:
        roots = _data_roots(self._runs[chosen].options)
        others = [
            label for label, scores in self._runs.items() if scores.options and _data_roots(scores.options) != roots
        ]
        if others:
            self._missing[
                f'{", ".join(others)}: tested on other data of the same name; input and ground truth are those of '
                f'{chosen}, and scores may not be comparable'
            ] = []

    def _read_source(self, frame: Frame) -> None:
        place = self._places.get(frame.image)
        if self._source is None or place is None:
            return
        try:
            sample = self._source[place]
            name = result_name(str(sample['lq_path']), self._roots)
            if name != frame.image:
                self._miss(f'The data set has changed since the test: it has {name} in place of an image', frame.image)
                return
            frame.lr = _as_picture(sample['lq'])
            frame.gt = _as_picture(sample['gt']) if 'gt' in sample else None
        except Exception as error:  # as in _open
            self._miss(f'Cannot be read from the data set ({" ".join(str(error).split())})', frame.image)
            frame.lr = frame.gt = None

    def _enlarge(self, frame: Frame) -> None:
        size = frame.gt if frame.gt is not None else next(iter(frame.results.values()), None)
        if frame.lr is None or size is None:
            return
        scale = size.shape[0] // frame.lr.shape[0]
        if size.shape[:2] != (frame.lr.shape[0] * scale, frame.lr.shape[1] * scale):
            self._miss(
                f'The input is not shown: {size.shape[1]}x{size.shape[0]} is not a whole multiple of its '
                f'{frame.lr.shape[1]}x{frame.lr.shape[0]}',
                frame.image,
            )
            return
        frame.enlarged = frame.lr if scale == 1 else enlarge(frame.lr, scale)


def _build(scores: DatasetScores) -> Any:
    from basicsr.data import build_dataset

    with _quiet_log():
        return build_dataset(scores.options)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Hides the toolbox's log line for every data set it builds, which is meant for a run."""
    log = logging.getLogger('basicsr')
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _roots(options: dict[str, Any]) -> list[str | None]:
    return [source.get('dataroot_lq') for source in options.get('sources') or [options]]


def _data_roots(options: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(source.get('dataroot_lq'), source.get('dataroot_gt')) for source in options.get('sources') or [options]]


def _as_picture(tensor: Tensor) -> np.ndarray:
    picture = tensor.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(picture if picture.shape[2] == 3 else np.repeat(picture[:, :, :1], 3, axis=2))
