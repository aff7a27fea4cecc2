"""Where to look: the part of a picture in which most of something lies."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pdan_plugin.errors import RequestError

Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""


def fullest_box(amounts: np.ndarray, width: int, height: int) -> Box:
    """The box of that size (or the picture's, where that is smaller) with the largest sum of ``amounts`` (h, w)."""
    width, height = min(width, amounts.shape[1]), min(height, amounts.shape[0])
    sums = cv2.integral(amounts)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top), width, height


def absolute_error(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean of the channels' absolute differences, in grey levels: two (h, w, 3) uint8 to (h, w) float32."""
    return cv2.absdiff(picture, reference).mean(axis=2, dtype=np.float32)


def spread(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """How far pictures lie apart at each pixel, largest less smallest, mean of the channels: (h, w) float32."""
    stack = np.stack(pictures)
    return (stack.max(axis=0) - stack.min(axis=0)).mean(axis=2, dtype=np.float32)


def telling_box(results: Sequence[np.ndarray], reference: np.ndarray | None, width: int, height: int) -> Box:
    """Where results differ most from each other; one alone, where it differs most from the reference.

    Args:
        results: Pictures of one size, (h, w, 3) uint8, at least one.
        reference: Likewise; None only matters where there is one result, which then says where contours are densest.
        width: Of the box, in pixels; the picture's where that is smaller.
        height: Likewise.
    """
    if len(results) > 1:
        amounts = spread(results)
    elif reference is not None:
        amounts = absolute_error(results[0], reference)
    else:
        amounts = contours(results[0])
    return fullest_box(amounts, width, height)


def contours(picture: np.ndarray) -> np.ndarray:
    """Strength of the contours: (h, w, 3) uint8 RGB to (h, w) float32."""
    return np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F))


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """The box of a picture."""
    left, top, width, height = box
    return picture[top : top + height, left : left + width]


def read_box(text: str) -> Box:
    """``X,Y,W,H`` to a box.

    Raises:
        RequestError: It is none.
    """
    try:
        left, top, width, height = (int(word) for word in text.split(','))
    except ValueError:
        raise RequestError(f'{text!r} is no box; expected X,Y,W,H in pixels of the result: 400,120,160,120') from None
    if min(left, top) < 0 or min(width, height) < 1:
        raise RequestError(f'{text!r} is no box; X and Y are 0 or more, W and H 1 or more')
    return left, top, width, height
