"""Merges several models' results of one picture: their mean, or a mean with sharpness weights for each patch.

The patch merge is that of the challenge entry: the picture is cut into 4x4 patches, a no-reference auto-focus function
scores each model's patch, and these scores weight the mean of the patches. Seams are visible if the weights of
neighbouring patches differ. Blended weights, interpolated between the patches' centres, avoid them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pdan_plugin.metrics.sharpness import FocusFunction, luminance, patch_edges, patch_scores

GRID = 4


def patch_weights(
    pictures: Sequence[NDArray[np.uint8]], function: FocusFunction, grid: int = GRID
) -> NDArray[np.float64]:
    """Each model's weight in each patch: k pictures, (h, w, 3) RGB -> (k, rows, columns), 0 to 1, summing to 1 over k.

    The weight is the model's score divided by the sum of all scores. A score below 0 (Vollath's F4 of noise) counts as
    0. If all scores are 0, as in a flat patch, the weights are equal.

    Raises:
        ValueError: No picture, or pictures of different shapes.
    """
    _check_shapes(pictures)
    scores = np.stack([patch_scores(luminance(picture), function, grid) for picture in pictures]).clip(min=0)
    sums = scores.sum(axis=0)
    equal = np.full_like(scores, 1 / len(pictures))
    return np.divide(scores, sums, out=equal, where=sums > 0)


def weighted_mean(
    pictures: Sequence[NDArray[np.uint8]], weights: NDArray[np.float64], *, blend: bool = False
) -> NDArray[np.uint8]:
    """Averages pictures with `patch_weights`: k pictures (h, w, c) -> (h, w, c), summed in float64, rounded once.

    Args:
        blend: Whether to interpolate the weights bilinearly between the centres of the patches (constant outside the
            outermost centres). Otherwise they jump at the patches' edges.

    Raises:
        ValueError: No picture, pictures of different shapes, or weights of another number of pictures.
    """
    height, width = _check_shapes(pictures)
    if weights.ndim != 3 or len(weights) != len(pictures):
        raise ValueError(f'expected weights (k, rows, columns) of {len(pictures)} pictures, got shape {weights.shape}')
    down = _spread(height, weights.shape[1], blend)
    across = _spread(width, weights.shape[2], blend)
    total = np.zeros(pictures[0].shape)
    for picture, shares in zip(pictures, weights, strict=True):
        total += picture * (down @ shares @ across.T)[:, :, None]
    return _rounded(total, pictures[0].dtype)


def plain_mean(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Averages pictures with equal weights: k pictures (h, w, c) -> (h, w, c), rounded once.

    Raises:
        ValueError: No picture, or pictures of different shapes.
    """
    _check_shapes(pictures)
    return _rounded(np.stack(pictures).mean(axis=0, dtype=np.float64), pictures[0].dtype)


def _spread(length: int, parts: int, blend: bool) -> NDArray[np.float64]:
    """(length, parts): the share of each part's weight in each pixel's; every row sums to 1."""
    edges = patch_edges(length, parts)
    if not blend:
        return np.repeat(np.eye(parts), np.diff(edges), axis=0)
    centres = (edges[:-1] + edges[1:] - 1) / 2
    return np.stack([np.interp(np.arange(length), centres, part) for part in np.eye(parts)], axis=1)


def _rounded(picture: NDArray[np.float64], dtype: np.dtype) -> NDArray[np.uint8]:
    return np.rint(picture).clip(0, np.iinfo(dtype).max).astype(dtype)


def _check_shapes(pictures: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise ValueError(f'expected pictures of one shape, got {sorted(shapes) or "none"}')
    height, width = pictures[0].shape[:2]
    return height, width
