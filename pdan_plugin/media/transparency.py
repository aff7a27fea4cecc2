"""Restores pictures with transparency by a network for colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pdan_plugin.media.picture_files import Picture
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.synthesis.bicubic import imresize

_BAND = 256  # rows of the input to resize at a time
_MARGIN = 4  # rows: at least the reach of a cubic kernel


def restore_layers(
    restorer: PictureRestorer, picture: Picture, on_tile: Callable[[int, int], None] | None = None
) -> Picture:
    """Restores a picture: colour by the network, transparency by MATLAB's bicubic, grey by the mean of three channels.

    Fully transparent pixels have hidden colours, often black. These are replaced by the colour of the nearest visible
    pixel first, because the network would otherwise produce an edge that spreads into visible pixels.
    """
    return with_layers(picture, restorer.restore_picture(colour_to_restore(picture), on_tile), restorer.scale)


def colour_to_restore(picture: Picture) -> NDArray[Any]:
    """What the network gets of a picture, (h, w, 3): its colour, where hidden filled from its surroundings."""
    return picture.colour if picture.alpha is None else with_hidden_colours_filled(picture.colour, picture.alpha)


def with_layers(picture: Picture, restored: NDArray[Any], scale: int) -> Picture:
    """The result of a picture, from its restored colour (scale * h, scale * w, 3)."""
    if picture.is_grey:
        restored = _grey(restored)
    alpha = None if picture.alpha is None else enlarged(picture.alpha, scale)
    return replace(picture, colour=restored, alpha=alpha)


def with_hidden_colours_filled(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """(h, w, 3): every pixel with alpha 0 gets the colour of the nearest pixel with alpha above 0."""
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return colour
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # every visible pixel has its own label; a hidden pixel has the label of the nearest visible one
    colours = np.empty((int(labels.max()) + 1, colour.shape[2]), colour.dtype)
    colours[labels[~hidden]] = colour[~hidden]
    return colours[labels]


def enlarged(plane: NDArray[Any], scale: int) -> NDArray[Any]:
    """(h, w) uint8 or uint16 -> (scale * h, scale * w), bicubic like MATLAB's ``imresize``, in bands of rows."""
    if scale == 1:
        return plane
    height, width = plane.shape
    top_value = int(np.iinfo(plane.dtype).max)
    result = np.empty((height * scale, width * scale), plane.dtype)
    for start in range(0, height, _BAND):
        stop = min(start + _BAND, height)
        above, below = max(0, start - _MARGIN), min(height, stop + _MARGIN)
        band = imresize(torch.from_numpy(plane[above:below].astype(np.float32)), scale)
        band = band[(start - above) * scale : (stop - above) * scale]
        result[start * scale : stop * scale] = band.clamp_(0, top_value).round_().numpy().astype(plane.dtype)
    return result


def _grey(colour: NDArray[Any]) -> NDArray[Any]:
    """Three equal channels: the mean of the channels of ``colour``."""
    grey = np.empty(colour.shape[:2], colour.dtype)
    for start in range(0, len(colour), _BAND):
        rows = slice(start, start + _BAND)
        grey[rows] = ((colour[rows].sum(axis=2, dtype=np.uint32) + 1) // 3).astype(colour.dtype)
    return np.repeat(grey[..., None], 3, axis=2)
