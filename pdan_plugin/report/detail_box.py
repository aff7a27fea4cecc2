"""Chooses the part of a picture that a detail shows."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pdan_plugin.errors import RequestError

Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels."""


def fullest_box(amounts: np.ndarray, width: int, height: int) -> Box:
    """The box of this size (at most the picture's) with the largest sum of ``amounts`` (h, w)."""
    width, height = min(width, amounts.shape[1]), min(height, amounts.shape[0])
    sums = cv2.integral(amounts)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(left), int(top), width, height


def absolute_error(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean of the channels' absolute differences, in grey levels: two (h, w, 3) uint8 to (h, w) float32."""
    return cv2.absdiff(picture, reference).mean(axis=2, dtype=np.float32)


def spread(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The range (largest minus smallest) over the pictures at each pixel, mean of the channels: (h, w) float32."""
    stack = np.stack(pictures)
    return (stack.max(axis=0) - stack.min(axis=0)).mean(axis=2, dtype=np.float32)


def telling_box(results: Sequence[np.ndarray], reference: np.ndarray | None, width: int, height: int) -> Box:
    """The box in which results differ most from each other, or a single result differs most from the reference.

    Args:
        results: One or more pictures of one size, (h, w, 3) uint8.
        reference: A picture of that size, used only for a single result; None for the box with the densest contours.
        width: Width of the box in pixels, at most the picture's.
        height: Height of the box in pixels, at most the picture's.
    """
    if len(results) > 1:
        amounts = spread(results)
    elif reference is not None:
        amounts = absolute_error(results[0], reference)
    else:
        amounts = contours(results[0])
    return fullest_box(amounts, width, height)


def contours(picture: np.ndarray) -> np.ndarray:
    """The strength of contours at each pixel: (h, w, 3) uint8 RGB to (h, w) float32."""
    return np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F))


def cut(picture: np.ndarray, box: Box) -> np.ndarray:
    """Crops a picture to the box."""
    left, top, width, height = box
    return picture[top : top + height, left : left + width]


def read_box(text: str) -> Box:
    """Converts ``X,Y,W,H`` to a box.

    Raises:
        RequestError: The text is not a box.
    """
    try:
        left, top, width, height = (int(word) for word in text.split(','))
    except ValueError:
        raise RequestError(
            f'{text!r} is not a box; expected X,Y,W,H in pixels of the result, such as 400,120,160,120'
        ) from None
    if min(left, top) < 0 or min(width, height) < 1:
        raise RequestError(f'{text!r} is not a box; expected X and Y of 0 or more, W and H of 1 or more')
    return left, top, width, height
