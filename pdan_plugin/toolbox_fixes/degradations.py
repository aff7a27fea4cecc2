"""Degradations of training pictures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from basicsr.data import degradations
from numpy.typing import NDArray

from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


@fix(
    where='data/degradations.py:746',
    upstream='none',
    symptom="OpenCV 5 (and some of 4): random_add_jpg_compression fails: Can't parse 'params', item 1 has a wrong type",
    behaves=lambda: _encodes_with_an_integer(),
)
def jpeg_quality_is_an_integer() -> None:
    """Gives imencode an integer quality, cut off as older OpenCVs did, and the 8-bit picture that it would round to."""

    def add_jpg_compression(img: NDArray, quality: float = 90) -> NDArray:
        opencv: Any = degradations.cv2  # which the probe replaces
        levels = np.rint(np.clip(img, 0, 1) * 255.0).astype(np.uint8)
        _, encoded = opencv.imencode('.jpg', levels, [int(cv2.IMWRITE_JPEG_QUALITY), int(quality)])
        return np.asarray(opencv.imdecode(encoded, cv2.IMREAD_COLOR), np.float32) / np.float32(255)

    replace(degradations, 'add_jpg_compression', add_jpg_compression)


@probe
def _encodes_with_an_integer() -> bool:
    """Whether the quality is an integer; imencode is replaced, because OpenCVs differ in what they accept."""
    settings: list[Any] = []
    picture = np.zeros((8, 8, 3), np.uint8)
    watched = SimpleNamespace(
        IMWRITE_JPEG_QUALITY=cv2.IMWRITE_JPEG_QUALITY,
        imencode=lambda ending, image, given: (settings.extend(given), picture),
        imdecode=lambda encoded, flags: picture,
    )
    quality: Any = np.float64(90.5)
    with swapped(degradations, cv2=watched):
        degradations.add_jpg_compression(np.zeros((8, 8, 3), np.float32), quality)
    return isinstance(settings[1], int)
