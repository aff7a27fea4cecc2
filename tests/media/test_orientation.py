"""The eight orientations: against the definition of a display matrix, pixel by pixel."""

import struct

import numpy as np
import pytest

from pdan_plugin.media.orientation import is_sideways, orientation_of_display_matrix, upright

# a b c d
EIGHT = [
    (1, 0, 0, 1), (-1, 0, 0, 1), (-1, 0, 0, -1), (1, 0, 0, -1),
    (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, -1, 0), (0, -1, 1, 0),
]  # fmt: skip


def shown(pixels, a, b, c, d):
    """Each pixel (p, q) moved to (a p + c q, b p + d q), and the whole moved to begin at (0, 0)."""
    height, width = pixels.shape[:2]
    places = {(a * p + c * q, b * p + d * q): pixels[q, p] for q in range(height) for p in range(width)}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    result = np.zeros((1 + max(y for _, y in places) - top, 1 + max(x for x, _ in places) - left, 3), pixels.dtype)
    for (x, y), value in places.items():
        result[y - top, x - left] = value
    return result


@pytest.mark.parametrize('number', range(8))
def test_the_whole_matrix_counts(number):
    matrix = EIGHT[number]
    a, b, c, d = (each << 16 for each in matrix)
    orientation = orientation_of_display_matrix(struct.pack('=9i', a, b, 0, c, d, 0, 64 << 16, 48 << 16, 1 << 30))
    assert orientation == number + 1
    pixels = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    np.testing.assert_array_equal(upright(pixels, orientation), shown(pixels, *matrix))
    assert is_sideways(orientation) == (number >= 4)


@pytest.mark.parametrize('number', range(8))
def test_a_matrix_that_scales_or_leans_a_little_is_the_nearest(number):
    a, b, c, d = (int(70000 * each + lean) for each, lean in zip(EIGHT[number], (300, -500, 400, 200), strict=True))
    assert orientation_of_display_matrix(struct.pack('=9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)) == number + 1
