"""Pictures on their way to the network and back: as whole numbers, which are a quarter or half of float32's bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pdan_plugin.errors import WorkError
from pdan_plugin.restoration.tiling import Tile, reflected

_CACHED = 2**17  # values rounded at a time, which stay in a core's cache


def part_of(picture: NDArray[Any], tile: Tile) -> NDArray[Any]:
    """A tile's rectangle of a picture (h, w, c); what lies outside is a reflection."""
    rows, columns = tile.rows, tile.columns
    if rows.stop <= picture.shape[0] and columns.stop <= picture.shape[1]:
        return picture[rows.start : rows.stop, columns.start : columns.stop]
    return picture[
        reflected(rows.start, rows.stop, picture.shape[0])[:, None],
        reflected(columns.start, columns.stop, picture.shape[1]),
    ]


def to_network(part: NDArray[Any], device: torch.device) -> Tensor:
    """(h, w, c) uint8 or uint16 -> (1, c, h, w) float32, [0, 1], on the device, in channels-last layout."""
    top = int(np.iinfo(part.dtype).max)
    if device.type == 'cpu':
        # numpy, not torch: torch's threads wait for more work for a while, and take the cores from those that write
        values = part.astype(np.float32)
        values /= top
        return torch.from_numpy(values)[None].permute(0, 3, 1, 2)
    part = np.require(part, requirements=['C', 'W'])  # torch shares the memory, and warns if it must not be written
    # not every device has uint16; as int16, the upper half of the values is negative
    whole = torch.from_numpy(part if part.dtype == np.uint8 else part.view(np.int16))
    if device.type == 'cuda':
        whole = whole.pin_memory().to(device, non_blocking=True)
    else:
        whole = whole.to(device)
    if part.dtype == np.uint16:
        whole = whole.to(torch.int32) & 0xFFFF
    # divided by a tensor, as exactly as on the host: by a plain number CUDA multiplies with its reciprocal
    values = whole.to(torch.float32).div_(torch.tensor(float(top), device=device))
    return values[None].permute(0, 3, 1, 2)


def from_network(values: Tensor, dtype: Any) -> Callable[[], NDArray[Any]]:
    """(c, h, w) float32 -> a function that returns (h, w, c) of uint8 or uint16, clipped and rounded (half to even).

    A GPU rounds, and its result is on the way to the host when this returns; the function waits for it. On a CPU the
    function does the work, in the thread that calls it.

    Raises:
        WorkError: By the function: a value is NaN or infinite.
    """
    top = int(np.iinfo(dtype).max)
    if values.device.type == 'cpu':
        return lambda: _rounded(values.numpy(), top, dtype)
    is_finite = values.sum().isfinite()  # as all values are; a test of each would take memory
    whole = values.clamp(0, 1).mul_(top).round_().to(torch.uint8 if top == 255 else torch.int32)
    if top != 255:
        whole = whole.to(torch.int16)  # the same 16 bits
    whole = whole.permute(1, 2, 0).contiguous()
    if whole.device.type != 'cuda':
        require_finite(is_finite)
        host = whole.cpu()
        return lambda: _as_numpy(host, dtype)
    host = torch.empty(whole.shape, dtype=whole.dtype, pin_memory=True)
    host.copy_(whole, non_blocking=True)
    flag = torch.empty((), dtype=torch.bool, pin_memory=True)
    flag.copy_(is_finite, non_blocking=True)  # reading it on the device would wait for the next picture, too
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(whole.device))

    def wait() -> NDArray[Any]:
        copied.synchronize()
        require_finite(flag)
        return _as_numpy(host, dtype).copy()  # pinned memory is scarce, and free for the next picture

    return wait


def require_finite(is_finite: Tensor | np.bool_) -> None:
    """Raises a WorkError unless all values of a result are finite. Rounded, NaN would be black."""
    if not is_finite:
        raise WorkError(
            'the network computes values that are not finite (NaN or infinite), so there is no result; with precision '
            'fp16 use bf16 or fp32, which have a larger range, else its weights are damaged'
        )


def _as_numpy(whole: Tensor, dtype: Any) -> NDArray[Any]:
    return whole.numpy().view(dtype)


def _rounded(values: NDArray[np.float32], top: int, dtype: Any) -> NDArray[Any]:
    """(c, h, w) -> (h, w, c), in bands of rows. numpy and OpenCV's copies, not torch: see `to_network`."""
    import cv2  # only here: programs with spandrel run the network without it

    channels, height, width = values.shape
    result = np.empty((height, width, channels), dtype)
    rows = max(1, _CACHED // (width * channels))
    is_planar = values.strides[2] == values.itemsize  # else the channels of a pixel are side by side
    layout = values if is_planar else values.transpose(1, 2, 0)
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        part = layout[:, band] if is_planar else layout[band]
        require_finite(np.isfinite(part).all())
        rounded = part.clip(0, 1)
        rounded *= np.float32(top)
        np.rint(rounded, out=rounded)
        if is_planar and channels > 1:
            cv2.merge(list(rounded.astype(dtype)), result[band])
        else:
            result[band] = rounded.reshape(result[band].shape)
    return result
