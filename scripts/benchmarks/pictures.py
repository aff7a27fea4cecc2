"""The benchmarks' pictures: crops of the photographs that scikit-image ships, downsampled as in REDS."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.synthesis.photographs import skimage_photographs

SCALE = 4
LR_SIZE = 64
# Every photograph has two such crops, in opposite corners; sides in pixels, multiples of the scale.
WHOLE_PICTURE = (288, 384)


def training_batch(size: int, seed: int, number: int) -> dict[str, Any]:
    """The ``number``-th batch of the sequence ``seed``: random crops, flipped and rotated, in a loader's form.

    Returns:
        ``lq`` and ``lq_sharp`` (size, 3, 64, 64), with equal values, ``gt`` (size, 3, 256, 256), float32 RGB in [0, 1],
        from 8-bit pictures; ``lq_path`` (size names).

    Raises:
        RequestError: scikit-image is not installed.
    """
    draw = np.random.default_rng([seed, number])
    photographs = _photographs()
    names, gt, lq = [], [], []
    side = LR_SIZE * SCALE
    for _ in range(size):
        name, picture = photographs[draw.integers(len(photographs))]
        top, left = (int(draw.integers(length - side + 1)) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        crop = np.rot90(crop[:, :: draw.choice([1, -1])], k=int(draw.integers(4)))
        crop = np.ascontiguousarray(crop)
        names.append(name)
        gt.append(_to_tensor(crop))
        lq.append(_to_tensor(downsample_uint8(crop, SCALE)))
    small = torch.stack(lq)
    return {'lq': small, 'gt': torch.stack(gt), 'lq_sharp': small.clone(), 'lq_path': names}


def write_validation_pictures(folder: Path, count: int | None = None) -> int:
    """Writes ``gt`` (288x384) and ``lq`` (72x96) PNG pictures under ``folder``; returns the number of pairs.

    Args:
        count: The most pairs to write; default: all (22).

    Raises:
        RequestError: scikit-image is not installed.
    """
    for part in ('gt', 'lq'):
        (folder / part).mkdir(parents=True)
    number = 0
    for number, crop in enumerate(_corner_crops(), 1):
        cv2.imwrite(str(folder / 'gt' / f'{number:02d}.png'), crop)
        cv2.imwrite(str(folder / 'lq' / f'{number:02d}.png'), downsample_uint8(crop, SCALE))
        if number == count:
            break
    return number


def large_frames(count: int) -> Iterator[np.ndarray]:
    """``count`` pictures of REDS's size, (720, 1280, 3) uint8 RGB: crops of photographs side by side, none enlarged."""
    height, width = 240, 320
    photographs = [photograph for _, photograph in _photographs()]
    for number in range(count):
        draw = np.random.default_rng(number)

        def tile(draw: np.random.Generator = draw) -> np.ndarray:
            picture = photographs[draw.integers(len(photographs))]
            top, left = draw.integers(picture.shape[0] - height + 1), draw.integers(picture.shape[1] - width + 1)
            return picture[top : top + height, left : left + width]

        yield np.vstack([np.hstack([tile() for _ in range(4)]) for _ in range(3)])


def _corner_crops() -> Iterator[np.ndarray]:
    """(288, 384, 3) uint8, BGR."""
    height, width = WHOLE_PICTURE
    for _, picture in _photographs():
        bgr = picture[:, :, ::-1]
        yield np.ascontiguousarray(bgr[:height, :width])
        yield np.ascontiguousarray(bgr[-height:, -width:])


@lru_cache(maxsize=1)
def _photographs() -> list[tuple[str, np.ndarray]]:
    """(name, (h, w, 3) uint8 RGB) of every photograph."""
    train, validation = skimage_photographs()
    return [(each.path.name, np.ascontiguousarray(each.read()[:, :, ::-1])) for each in train + validation]


def _to_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous().float().div_(255)
