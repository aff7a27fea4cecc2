"""The eight orientations of pictures, by their numbers in EXIF."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

# (rows and columns swapped, then rows mirrored, then columns mirrored) -> EXIF's number
_NUMBERS = {
    (False, False, False): 1,
    (False, False, True): 2,
    (False, True, True): 3,
    (False, True, False): 4,
    (True, False, False): 5,
    (True, False, True): 6,
    (True, True, True): 7,
    (True, True, False): 8,
}
_STEPS = {number: steps for steps, number in _NUMBERS.items()}


def orientation_of_display_matrix(matrix: bytes) -> int:
    """The orientation, 1 to 8, nearest to a video's display matrix.

    Args:
        matrix: Nine 32-bit numbers a b u, c d v, x y w: a pixel at (p, q) is shown at (a p + c q + x, b p + d q + y).
    """
    a, b, _, c, d = struct.unpack_from('=5i', matrix)
    is_swapped = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if is_swapped else (a, d)
    return _NUMBERS[is_swapped, down < 0, across < 0]


def is_sideways(orientation: int) -> bool:
    """Whether width and height are swapped."""
    return _STEPS[orientation][0]


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels, (h, w, ...), as they are shown: (w, h, ...) for the orientations 5 to 8."""
    is_swapped, mirrors_rows, mirrors_columns = _STEPS[orientation]
    if is_swapped:
        pixels = pixels.swapaxes(0, 1)
    if mirrors_rows:
        pixels = pixels[::-1]
    if mirrors_columns:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
