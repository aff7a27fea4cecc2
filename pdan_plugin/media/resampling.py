"""Resamples a restored picture to another size: Lanczos, widened for smaller results so that nothing aliases.

The kernel is Lanczos with three lobes, as in Pillow. For a smaller result it is as many times wider, so every input
pixel counts. Values are resampled as they are stored, not in linear light: networks are trained on pictures that were
made smaller in this way, other programs do the same by default, and the true transfer function of a file is often
unknown. Computed in float32 and rounded once, for 8 and for 16 bits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.media.picture import Picture

_LOBES = 3
_BAND = 1 << 24  # values of the input that are converted to float32 at a time


def resampled(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(h, w) or (h, w, c) of uint8 or uint16 -> the same type at ``size`` (height, width), clipped and rounded."""
    if pixels.shape[:2] == size:
        return pixels
    top = int(np.iinfo(pixels.dtype).max)
    result = np.empty((*size, *pixels.shape[2:]), pixels.dtype)
    for rows, values in _bands(pixels, size):
        np.clip(np.rint(values, out=values), 0, top, out=values)
        result[rows] = values
    return result


def resampled_picture(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at ``size`` (height, width).

    Colours count by their opacity, so that the colour of a transparent pixel does not spread into visible ones.
    """
    if picture.colour.shape[:2] == size:
        return picture
    colour = picture.colour[..., :1] if picture.is_grey else picture.colour
    if picture.alpha is None:
        colour, alpha = resampled(colour, size), None
    else:
        colour, alpha = _with_alpha(colour, picture.alpha, size)
    return replace(picture, colour=np.repeat(colour, 3, axis=2) if picture.is_grey else colour, alpha=alpha)


def _with_alpha(colour: NDArray[Any], alpha: NDArray[Any], size: tuple[int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    top = int(np.iinfo(colour.dtype).max)
    new_colour = resampled(colour, size)  # where the result is transparent
    new_alpha = np.empty(size, alpha.dtype)
    for rows, values in _bands(np.dstack([colour, alpha]), size, is_weighted=True):
        weight = values[..., -1]
        new_alpha[rows] = np.clip(np.rint(weight), 0, top)
        is_visible = new_alpha[rows] > 0
        colours = values[..., :-1][is_visible] / (weight[is_visible, None] / top)
        new_colour[rows][is_visible] = np.clip(np.rint(colours), 0, top)
    return new_colour, new_alpha


def _bands(pixels: NDArray[Any], size: tuple[int, int], *, is_weighted: bool = False) -> Any:
    """Yields (rows of the result, their values (rows, w[, c]) as float32), band after band.

    Args:
        is_weighted: Whether the channels are multiplied by the last one, divided by its highest value.
    """
    height, width = pixels.shape[:2]
    step = height / size[0]
    margin = math.ceil(_LOBES * max(1.0, step)) + 1
    channels = math.prod(pixels.shape[2:])
    count = max(1, int(_BAND / (max(width, size[1]) * channels * max(1.0, step))))
    for start in range(0, size[0], count):
        stop = min(size[0], start + count)
        first, last = max(0, math.floor(start * step) - margin), min(height, math.ceil(stop * step) + margin)
        part = pixels[first:last].astype(np.float32)
        if is_weighted:
            part[..., :-1] *= part[..., -1:] / np.iinfo(pixels.dtype).max
        box = (0, start * step - first, width, stop * step - first)
        shape = (size[1], stop - start)
        planes = [part] if part.ndim == 2 else [np.ascontiguousarray(part[..., each]) for each in range(channels)]
        made = [np.asarray(Image.fromarray(plane).resize(shape, Image.Resampling.LANCZOS, box)) for plane in planes]
        yield slice(start, stop), np.array(made[0]) if part.ndim == 2 else np.stack(made, axis=2)
