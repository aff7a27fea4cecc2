"""Tests whether focus functions rank blurred copies of a picture in the right order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS, FocusFunction, luminance, patch_scores

SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # pixels, of a Gaussian
# Pixels, of a straight motion at constant speed. Only odd lengths: their boxes are centred on the pixel. A box of even
# length is off by half a pixel, so that detail moves across the cut, or has half weights at its ends: another shape.
MOTIONS = (1, 3, 5, 7, 9, 11, 13, 15)
MARGIN = 16  # four sigmas; closer to the border the blur depends on invented pixels
PATCH_GRID = 4  # as in the ensemble
LEAST_SIDE = 2 * MARGIN + 32

Series = list[NDArray[np.float64]]


def gaussian_series(picture: NDArray[np.floating]) -> Series:
    """(h, w) blurred by each of ``SIGMAS`` and cropped by ``MARGIN`` on every side."""
    return [
        _cut(cv2.GaussianBlur(picture, (2 * MARGIN + 1, 2 * MARGIN + 1), sigma) if sigma else picture)
        for sigma in SIGMAS
    ]


def motion_series(picture: NDArray[np.floating], direction: str) -> Series:
    """(h, w) blurred by each of ``MOTIONS`` 'across' or 'down', and cropped by ``MARGIN`` on every side."""
    return [
        _cut(cv2.blur(picture, (length, 1) if direction == 'across' else (1, length)) if length > 1 else picture)
        for length in MOTIONS
    ]


SERIES: dict[str, Callable[[NDArray[np.floating]], Series]] = {
    'Gaussian': gaussian_series,
    'motion across': lambda picture: motion_series(picture, 'across'),
    'motion down': lambda picture: motion_series(picture, 'down'),
}


@dataclass(frozen=True)
class Ranking:
    """The scores of one function for one series of one picture, from sharp to blurred."""

    picture: str
    series: str
    function: str
    scores: tuple[float, ...]
    patches: tuple[bool, ...]
    """For each of the 4x4 patches, whether the order was right. Patches are small, and detail moves in and out."""

    @property
    def rises(self) -> tuple[int, ...]:
        """Indices where a more blurred picture scored at least as high as the one before; ideally empty."""
        return tuple(place for place in range(1, len(self.scores)) if self.scores[place] >= self.scores[place - 1])

    @property
    def sharpest_wins(self) -> bool:
        """Whether the unblurred picture scored higher than every blurred copy."""
        return self.scores[0] > max(self.scores[1:])


def rank_blur(
    pictures: Mapping[str, NDArray[np.uint8]], functions: Mapping[str, FocusFunction] = FOCUS_FUNCTIONS
) -> list[Ranking]:
    """Scores every series of every picture with every function, with a progress bar.

    Args:
        pictures: Name -> (h, w, 3) uint8 RGB.
        functions: Name -> function.

    Raises:
        RequestError: A picture is too small to be blurred and cropped, or has only one colour.
    """
    for name, picture in pictures.items():
        height, width = picture.shape[:2]
        if min(height, width) < LEAST_SIDE:
            raise RequestError(
                f'{name}: {width}x{height} is too small for a blur series, which crops {MARGIN} pixels on '
                f'every side; give pictures of at least {LEAST_SIDE}x{LEAST_SIDE}'
            )
        if np.ptp(picture[MARGIN:-MARGIN, MARGIN:-MARGIN]) == 0:
            raise RequestError(f'{name}: has only one colour, so blur does not change it; leave it out')
    rankings: list[Ranking] = []
    for name, picture in tqdm(pictures.items(), unit='picture', desc='ranking'):
        grey = luminance(picture).astype(np.float64)
        for kind, series_of in SERIES.items():
            series = series_of(grey)
            for function, score in functions.items():
                by_patch = np.stack([patch_scores(blurred, score, PATCH_GRID) for blurred in series])
                right = (np.diff(by_patch, axis=0) < 0).all(axis=0)
                scores = tuple(score(blurred) for blurred in series)
                rankings.append(Ranking(name, kind, function, scores, tuple(right.ravel().tolist())))
    return rankings


def ranking_table(rankings: Sequence[Ranking]) -> str:
    """A line per function with the number of series in the right order, then a line per series in a wrong order."""
    functions = list(dict.fromkeys(ranking.function for ranking in rankings))
    width = max(map(len, functions))
    lines = [
        f'{"function":{width}}  ' + '  '.join(f'{kind:>13}' for kind in SERIES) + '  sharpest wins  patches in order'
    ]
    for function in functions:
        mine = [ranking for ranking in rankings if ranking.function == function]
        cells = [_right([not ranking.rises for ranking in mine if ranking.series == kind]) for kind in SERIES]
        cells.append(_right([ranking.sharpest_wins for ranking in mine]))
        patches = _right([right for ranking in mine for right in ranking.patches])
        lines.append(f'{function:{width}}  ' + '  '.join(f'{cell:>13}' for cell in cells) + f'  {patches:>16}')
    for ranking in rankings:
        if ranking.rises:
            levels = SIGMAS if ranking.series == 'Gaussian' else MOTIONS
            places = ', '.join(
                f'{levels[place - 1]:g} to {levels[place]:g} '
                f'({(ranking.scores[place] - ranking.scores[place - 1]) / _scale(ranking.scores):+.2%})'
                for place in ranking.rises
            )
            lines.append(f'{ranking.function} rises on {ranking.picture}, {ranking.series}, from {places}')
    return '\n'.join(lines)


def _right(outcomes: Sequence[bool]) -> str:
    return f'{sum(outcomes)}/{len(outcomes)}'


def _scale(scores: Sequence[float]) -> float:
    return max(map(abs, scores)) or 1.0


def _cut(picture: NDArray) -> NDArray[np.float64]:
    return picture[MARGIN:-MARGIN, MARGIN:-MARGIN]
