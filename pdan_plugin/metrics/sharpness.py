"""Sharpness of a picture without a reference: auto-focus functions from the literature.

A focus function is largest for the sharpest of several pictures of one scene. Values of different scenes or functions
cannot be compared. All functions here

- take a luminance picture, (h, w) floating point, in grey levels [0, 255], at least one pixel;
- are means, not sums, over the places where the formula lies wholly inside the picture. So the value does not depend on
  the picture's size or on an invented border. A picture without such a place scores 0;
- have no threshold, which some authors add, because a suitable one depends on the scene.

All functions except Vollath's also count noise, ringing and upsampling grids as sharpness. Use them only to compare
pictures that are equally clean.

The HPEM loss does not use them: it ranks pixels by their errors (`losses/hpem_loss.py`).

Functions published for scan lines (Brenner, Vollath) are averaged over rows and columns. So rotated or transposed
pictures score the same (SMD2: only transposed ones). I is the luminance, x the column, y the row; mean() is over x and
y.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Luminance = NDArray[np.floating]
FocusFunction = Callable[[Luminance], float]

_LAPLACIAN = np.array([[-1, -4, -1], [-4, 20, -4], [-1, -4, -1]], np.float64)


def luminance(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Y = 0.299 R + 0.587 G + 0.114 B, unrounded: (h, w, 3) uint8 RGB -> (h, w) float32 in [0, 255].

    Raises:
        ValueError: The picture is not (h, w, 3) uint8.

    >>> luminance(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)).tolist()
    [[0.0, 255.0]]
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f'expected an (h, w, 3) uint8 picture, got shape {picture.shape}, {picture.dtype}')
    # In integers, so that equal colours give equal values. OpenCV's values differ in the last bit at the end of a row,
    # which would make one of two flat patches infinitely sharper than the other.
    thousandths = picture.astype(np.int32) @ np.array([299, 587, 114], np.int32)
    return (thousandths / 1000).astype(np.float32)


def brenner(picture: Luminance) -> float:
    """mean((I(x + 2, y) - I(x, y))^2), rows and columns averaged.

    J. F. Brenner et al., "An automated microscope for cytologic research: a preliminary evaluation", Journal of
    Histochemistry and Cytochemistry 24(1), 1976.

    >>> float(brenner(np.tile([0.0, 1.0, 2.0, 3.0], (4, 1))))  # 4 along the rows, 0 along the columns
    2.0
    """
    picture = _relative(picture)
    return _over_both_axes(picture, lambda lines: _mean((lines[:, 2:] - lines[:, :-2]) ** 2))


def tenengrad(picture: Luminance) -> float:
    """mean(Gx^2 + Gy^2), Gx and Gy by Sobel's 3x3 masks (1 2 1 across, -1 0 1 along).

    J. M. Tenenbaum, "Accommodation in computer vision", PhD thesis, Stanford, 1970; in this form in E. Krotkov,
    "Focusing", International Journal of Computer Vision 1, 1988.
    """
    picture = _relative(picture)
    across = cv2.Sobel(picture, cv2.CV_64F, 1, 0, ksize=3)
    down = cv2.Sobel(picture, cv2.CV_64F, 0, 1, ksize=3)
    return _mean(_inside(across) ** 2 + _inside(down) ** 2)


def energy_of_laplacian(picture: Luminance) -> float:
    """mean(L^2), L = I convolved with (-1 -4 -1; -4 20 -4; -1 -4 -1).

    M. Subbarao, T.-S. Choi, A. Nikzad, "Focusing techniques", Optical Engineering 32(11), 1993.
    """
    picture = _relative(picture)
    return _mean(_inside(cv2.filter2D(picture, cv2.CV_64F, _LAPLACIAN)) ** 2)


def sum_modified_laplacian(picture: Luminance) -> float:
    """mean(|2 I(x, y) - I(x - 1, y) - I(x + 1, y)| + |2 I(x, y) - I(x, y - 1) - I(x, y + 1)|).

    S. K. Nayar, Y. Nakagawa, "Shape from focus", IEEE Transactions on Pattern Analysis and Machine Intelligence 16(8),
    1994, with a step of 1. Like the others it is a mean, although its name says sum.
    """
    picture = _relative(picture)
    if min(picture.shape) < 3:
        return 0.0
    centre = 2 * picture[1:-1, 1:-1]
    across = np.abs(centre - picture[1:-1, :-2] - picture[1:-1, 2:])
    down = np.abs(centre - picture[:-2, 1:-1] - picture[2:, 1:-1])
    return _mean(across + down)


def variance(picture: Luminance) -> float:
    """mean((I - m)^2), m = mean(I).

    F. C. A. Groen, I. T. Young, G. Ligthart, "A comparison of different focus functions for use in autofocus
    algorithms", Cytometry 6(2), 1985.
    """
    return float(_relative(picture).var())


def normalised_variance(picture: Luminance) -> float:
    """mean((I - m)^2) / m, m = mean(I): variance corrected for changing brightness; 0 for black.

    Groen, Young, Ligthart 1985, as `variance`.
    """
    spread = variance(picture)
    mean = float(picture.mean(dtype=np.float64))
    return spread / mean if mean > 0 else 0.0


def vollath_f4(picture: Luminance) -> float:
    """mean(D(x, y) D(x + 1, y)) - mean(D(x, y) D(x + 2, y)), D = I - mean(I), rows and columns averaged.

    D. Vollath, "Automatic focusing by correlative methods", Journal of Microscopy 147(3), 1987. The paper has I
    instead of D. Both agree on an infinite picture; on a small one, I adds a multiple of the brightness at the border.

    It is designed to ignore noise: detail with a period below three pixels lowers the score. A score can therefore be
    negative, and can rise when the picture is slightly blurred.
    """
    picture = _relative(picture)
    deviation = picture - picture.mean()

    def along(lines: NDArray[np.float64]) -> float:
        if lines.shape[1] < 3:
            return 0.0
        return _mean(lines[:, 1:] * lines[:, :-1]) - _mean(lines[:, 2:] * lines[:, :-2])

    return _over_both_axes(deviation, along)


def smd2(picture: Luminance) -> float:
    """mean(|I(x, y) - I(x + 1, y)| * |I(x, y) - I(x, y + 1)|): the product of the grey differences to two neighbours.

    Y. Li, N. Chen, J. Zhang, "Fast and high sensitivity focusing evaluation function", Application Research of
    Computers 27(4), 2010 (in Chinese). It responds only to detail in both directions at once: a picture that varies
    along one axis only scores 0.
    """
    picture = _relative(picture)
    across = np.abs(picture[:-1, :-1] - picture[:-1, 1:])
    down = np.abs(picture[:-1, :-1] - picture[1:, :-1])
    return _mean(across * down)


FOCUS_FUNCTIONS: dict[str, FocusFunction] = {
    'brenner': brenner,
    'tenengrad': tenengrad,
    'energy_of_laplacian': energy_of_laplacian,
    'sum_modified_laplacian': sum_modified_laplacian,
    'variance': variance,
    'normalised_variance': normalised_variance,
    'vollath_f4': vollath_f4,
    'smd2': smd2,
}


def patch_edges(length: int, grid: int) -> NDArray[np.intp]:
    """Edges (from 0 to ``length``) of ``grid`` nearly equal parts of a side of ``length`` pixels.

    A side shorter than ``grid`` has one part per pixel.

    >>> patch_edges(10, 4).tolist()
    [0, 2, 5, 7, 10]
    """
    parts = min(grid, length)
    return np.arange(parts + 1) * length // parts


def patch_scores(picture: Luminance, function: FocusFunction, grid: int) -> NDArray[np.float64]:
    """(rows, columns): the focus function of each of the grid x grid patches of ``picture``.

    >>> patch_scores(np.zeros((40, 60), np.float32), brenner, grid=4).shape
    (4, 4)
    """
    tops, lefts = (patch_edges(side, grid) for side in picture.shape)
    return np.array(
        [
            [function(picture[top:bottom, left:right]) for left, right in pairwise(lefts)]
            for top, bottom in pairwise(tops)
        ]
    )


def _relative(picture: Luminance) -> NDArray[np.float64]:
    """The picture minus its first pixel in float64, so that a flat picture scores exactly 0, without rounding errors.

    The formulas use only differences, which do not change.
    """
    if picture.ndim != 2 or not picture.size or not np.issubdtype(picture.dtype, np.floating):
        raise ValueError(f'expected an (h, w) floating-point picture, got shape {picture.shape}, {picture.dtype}')
    relative = picture.astype(np.float64)
    return relative - relative[0, 0]


def _over_both_axes(picture: NDArray[np.float64], along: Callable[[NDArray[np.float64]], float]) -> float:
    return (along(picture) + along(picture.T)) / 2


def _inside(response: NDArray) -> NDArray:
    """The response of a 3x3 mask without the border pixels, for which OpenCV invents neighbours."""
    return response[1:-1, 1:-1]


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else 0.0
