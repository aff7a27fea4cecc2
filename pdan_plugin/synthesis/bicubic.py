"""MATLAB's ``imresize(image, scale, 'bicubic')``: antialiased Keys cubic (a = -0.5), symmetric borders, any scale.

Resizing one dimension is a product with a sparse matrix; each row holds the weights of one output pixel. MATLAB's
symmetric border (the edge pixel is repeated: ``c b a | a b c``) is part of the matrix, so no padding is needed. The
matrix is banded, so it is applied in blocks of output pixels, each to the few input pixels it depends on.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_CUBIC_WIDTH = 4
_BLOCK = 32  # output pixels per block: small enough to skip the matrix's zeros, large enough for a fast product


def imresize(image: Tensor, scale: float) -> Tensor:
    """Resize the last two dimensions as MATLAB does, without rounding or clipping.

    Each side of the result has ``ceil(size * scale)`` pixels. Dtype and device are the image's; gradients pass.
    bfloat16 and float16 are computed in float32. Results can exceed the input's range, because the kernel has negative
    lobes.

    Shape:
        (..., h, w) -> (..., ceil(h * scale), ceil(w * scale))

    Raises:
        ValueError: The scale is not positive, or the image has no pixels, fewer than two dimensions or an integer type.
    """
    if not scale > 0:
        raise ValueError(f'scale must be positive, got {scale}')
    if image.ndim < 2 or 0 in image.shape[-2:]:
        raise ValueError(f'expected (..., h, w) with at least one pixel, got shape {tuple(image.shape)}')
    if not image.is_floating_point():
        raise ValueError(f'expected a floating point image, got {image.dtype}; for uint8 frames use downsample_uint8')
    work = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    work = _resize_rows(work, scale)
    work = _resize_rows(work.transpose(-1, -2), scale).transpose(-1, -2)
    return work.to(image.dtype).contiguous()


def downsample_uint8(image: np.ndarray, factor: int) -> np.ndarray:
    """An 8-bit frame made smaller by a whole factor: bicubic as ``imresize``, clipped to [0, 255], rounded half up.

    The arithmetic is exact: for a whole factor the weights are whole multiples of 1 / (16 * factor**4), and float64
    holds every sum. So a crop with enough margin gives the same bytes as the whole frame, on any machine. Rounding
    happens once, at the end, as MATLAB does for a picture of doubles (the toolbox's ``generate_bicubic_img.m``). For
    uint8 MATLAB rounds after each of the two directions, which differs by one grey level at most; REDS's authors do not
    say which they used.

    Shape:
        (h, w, c) uint8 -> (ceil(h / factor), ceil(w / factor), c) uint8

    Raises:
        ValueError: The image is not (h, w, c) uint8, or the factor is not a whole number of at least 1.
    """
    if image.ndim != 3 or image.dtype != np.uint8:
        raise ValueError(f'expected an (h, w, c) uint8 image, got shape {image.shape}, {image.dtype}')
    if factor != int(factor) or factor < 1:
        raise ValueError(f'factor must be a whole number of at least 1, got {factor}')
    unit = 16 * int(factor) ** 4
    height, width, channels = image.shape
    rows = torch.from_numpy(np.ascontiguousarray(image)).reshape(height, width * channels).to(torch.float64)
    rows = _resize_rows(rows, 1 / factor, unit=unit).reshape(-1, width, channels)
    total = _resize_rows(rows, 1 / factor, unit=unit)
    return total.div_(float(unit) ** 2).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8).numpy()


def _resize_rows(image: Tensor, scale: float, unit: int | None = None) -> Tensor:
    """(..., h, w) -> (..., ceil(h * scale), w); with ``unit``, the weights are multiplied by it and rounded."""
    blocks = _weight_blocks(image.shape[-2], scale, unit)
    parts = [
        torch.matmul(
            torch.from_numpy(weights).to(device=image.device, dtype=image.dtype),
            image[..., start : start + weights.shape[1], :],
        )
        for start, weights in blocks
    ]
    return torch.cat(parts, dim=-2) if len(parts) > 1 else parts[0]


@lru_cache(maxsize=64)
def _weight_blocks(length: int, scale: float, unit: int | None) -> list[tuple[int, np.ndarray]]:
    """One dimension's resizing matrix, cut along its output pixels into (first input pixel, dense float64 block).

    The cache holds arrays, not tensors: a tensor created during torch.export is a fake one without values.
    """
    indices, weights = _contributions(length, scale)
    if unit is not None:
        weights = np.rint(weights * unit)
    blocks = []
    for begin in range(0, len(indices), _BLOCK):
        block_indices, block_weights = indices[begin : begin + _BLOCK], weights[begin : begin + _BLOCK]
        start, stop = int(block_indices.min()), int(block_indices.max()) + 1
        dense = np.zeros((len(block_indices), stop - start))
        rows = np.arange(len(block_indices))[:, None]
        np.add.at(dense, (rows, block_indices - start), block_weights)  # reflected pixels fall on ones already there
        blocks.append((start, dense))
    return blocks


def _contributions(length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """For each output pixel, its input pixels (0-based, reflected into the image) and their weights."""
    # 1e-9: 1/3 is not a float, and 9 * (1/3) must not become 4 pixels.
    out_length = math.ceil(length * scale - 1e-9)
    stretch = min(scale, 1.0)  # antialiasing widens the kernel when the image is made smaller
    kernel_width = _CUBIC_WIDTH / stretch
    centre = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centre - kernel_width / 2)
    taps = first[:, None] + np.arange(math.ceil(kernel_width) + 2)
    weights = stretch * cubic((centre[:, None] - taps) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    period = np.mod(taps.astype(np.int64), 2 * length)
    indices = np.minimum(period, 2 * length - 1 - period)
    # Columns without weight would only widen the blocks.
    used = np.any(np.abs(weights) > 1e-12, axis=0)
    return indices[:, used], weights[:, used]


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution kernel with a = -0.5 (Keys 1981, Eq. 4), zero from 2 on."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
