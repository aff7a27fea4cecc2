"""Repairs optical flow around objects that move in front of others.

Optical flow is too smooth at motion boundaries: background pixels beside a moving object get the object's motion. And
pixels that are hidden in the other frame have no measurable motion. Both are repaired from neighbours. A pixel takes
the neighbour's motion that matches the two frames best. A pixel that no motion matches (it is hidden in the other
frame) takes the motion of the neighbour nearest in place and colour, so that hidden background moves with the visible
background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import cv2
import numpy as np

Plane = np.ndarray
Motion = tuple[Plane, Plane]

# All distances are in pixels of the given (half-resolution) planes, all differences in grey levels.
_MATCHING_RADII = (4, 8)
_FILLING_RADII = (2, 4, 8)
_WINDOW = (5, 5)
_MOST_DIFFERENCE = 60  # limits the influence of a few outliers on a window
_WORTH_CHANGING = 1.0  # how much better another motion must match
_NO_MATCH, _CLEAR_MATCH = 15, 4
_DISTANCE_COST = 3.0  # grey levels per pixel
# How far forward and backward flow may differ and still agree: in pixels, plus a share of the motion's length.
_MISS, _MISS_SHARE = 1.0, 0.1
_MEDIAN = 5


def repaired(forward: Motion, backward: Motion, first: np.ndarray, second: np.ndarray) -> tuple[Motion, Motion]:
    """Both flows, repaired.

    Args:
        forward: x and y of the motion from the first picture to the second, float32 (h, w) each, in pixels.
        backward: The motion from the second picture to the first.
        first: uint8 RGBA (h, w, 4); the fourth channel is not used.
        second: As ``first``.
    """
    forward = _rematched(forward, first, second)
    backward = _rematched(backward, second, first)
    return _filled(forward, backward, first, second), _filled(backward, forward, second, first)


def _rematched(motion: Motion, here: np.ndarray, there: np.ndarray) -> Motion:
    """Gives every pixel the motion, its own or a neighbour's, that matches the pictures best around the pixel."""
    best = _difference(motion, here, there) - _WORTH_CHANGING
    chosen = motion
    for x, y in zip(*(_neighbours(plane, _MATCHING_RADII) for plane in motion), strict=True):
        difference = _difference((x, y), here, there)
        better = difference < best
        best = np.minimum(best, difference)
        chosen = np.where(better, x, chosen[0]), np.where(better, y, chosen[1])
    return chosen


def _filled(motion: Motion, back: Motion, here: np.ndarray, there: np.ndarray) -> Motion:
    """Gives pixels without a match the motion of the matched neighbour nearest in place and colour."""
    x, y = motion
    height, width = x.shape
    difference = _difference(motion, here, there)
    ends = _ends(motion)
    miss = cv2.magnitude(_read(back[0], ends) + x, _read(back[1], ends) + y)
    agree = (miss < _MISS + _MISS_SHARE * cv2.magnitude(x, y)) | (difference < _CLEAR_MATCH)
    matched = (_inside(ends) > 0) & agree & (difference < _NO_MATCH)

    colours = cv2.blur(cv2.cvtColor(here, cv2.COLOR_RGBA2RGB), (3, 3)).astype(np.float32)
    rows, columns = np.nonzero(~matched)
    lowest = np.full(len(rows), np.inf, np.float32)
    source_rows, source_columns = rows.copy(), columns.copy()
    for down, right in _offsets(_FILLING_RADII):
        from_rows, from_columns = np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)
        cost = np.abs(colours[from_rows, from_columns] - colours[rows, columns]).mean(axis=1)
        cost += np.float32(_DISTANCE_COST * np.hypot(down, right))
        better = matched[from_rows, from_columns] & (cost < lowest)
        lowest[better] = cost[better]
        source_rows[better], source_columns[better] = from_rows[better], from_columns[better]
    filled = []
    for plane in motion:
        repaired_plane = plane.copy()
        repaired_plane[rows, columns] = plane[source_rows, source_columns]
        filled.append(cv2.medianBlur(repaired_plane, _MEDIAN))
    return filled[0], filled[1]


def _difference(motion: Motion, here: np.ndarray, there: np.ndarray) -> Plane:
    """The difference, in grey levels, between the window around each pixel and the window it moves to."""
    ends = _ends(motion)
    difference = cv2.cvtColor(cv2.absdiff(here, _read(there, ends)), cv2.COLOR_RGBA2GRAY)
    difference = np.where(_inside(ends) > 0, np.minimum(difference, np.uint8(_MOST_DIFFERENCE)), np.uint8(_NO_MATCH))
    return cv2.boxFilter(difference, cv2.CV_32F, _WINDOW)


def _inside(positions: Motion) -> np.ndarray:
    """255 in the picture, 0 outside."""
    height, width = positions[0].shape
    return cv2.bitwise_and(cv2.inRange(positions[0], -0.5, width - 0.5), cv2.inRange(positions[1], -0.5, height - 0.5))


def _ends(motion: Motion) -> Motion:
    height, width = motion[0].shape
    return motion[0] + np.arange(width, dtype=np.float32), motion[1] + np.arange(height, dtype=np.float32)[:, None]


def _read(plane: np.ndarray, positions: Motion) -> np.ndarray:
    return cv2.remap(plane, *positions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _offsets(radii: Sequence[int]) -> Iterator[tuple[int, int]]:
    for radius, down, right in product(radii, (-1, 0, 1), (-1, 0, 1)):
        if (down, right) != (0, 0):
            yield radius * down, radius * right


def _neighbours(plane: Plane, radii: Sequence[int]) -> Iterator[Plane]:
    """The plane shifted in eight directions by each radius, its edge pixels repeated."""
    most = max(radii)
    height, width = plane.shape
    wide = cv2.copyMakeBorder(plane, most, most, most, most, cv2.BORDER_REPLICATE)
    for down, right in _offsets(radii):
        yield wide[most + down : most + down + height, most + right : most + right + width]
