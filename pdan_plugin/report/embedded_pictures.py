"""Encodes pictures for a page: WebP as data URIs, with a limit on the bytes.

Pictures are (h, w, 3) uint8 RGB.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

ERROR_RANGE = 40.0  # grey levels of difference that error maps show in their brightest colour
_ERROR_WIDTH = 480
_DETAIL_QUALITY = 92
# (largest width, quality), from best to worst
_STEPS = ((1280, 88), (1280, 78), (960, 80), (960, 66), (720, 66), (560, 60), (400, 50))


@dataclass(frozen=True)
class Encoded:
    """A frame's pictures as data URIs, all with one width and quality, so that they can be compared."""

    uris: dict[str, str]
    width: int
    quality: int


def encode_alike(pictures: dict[str, np.ndarray], most_bytes: int) -> Encoded:
    """Encodes the pictures with the best width and quality for which they take at most ``most_bytes`` together.

    If even the worst width and quality need more, the limit is exceeded, because a smaller picture would be useless.
    """
    encoded = Encoded({}, 0, 0)
    for most_width, quality in _STEPS:
        width = min(most_width, next(iter(pictures.values())).shape[1])
        if width == encoded.width and quality >= encoded.quality:
            continue
        last = (most_width, quality) == _STEPS[-1]
        probe = next(reversed(pictures.values()))  # the ground truth if there is one, which has the most detail
        if not last and len(webp(shrink(probe, width), quality)) * len(pictures) > 2 * most_bytes:
            continue  # far too large: skip the other pictures
        files = {name: webp(shrink(picture, width), quality) for name, picture in pictures.items()}
        encoded = Encoded({name: data_uri(file) for name, file in files.items()}, width, quality)
        if sum(map(len, files.values())) <= most_bytes:
            break
    return encoded


def encode_detail(picture: np.ndarray) -> str:
    """Encodes a crop at full size as a data URI."""
    return data_uri(webp(picture, _DETAIL_QUALITY))


def encode_error(error: np.ndarray) -> str:
    """Encodes an error in grey levels, (h, w) float32, as a data URI of `error_colours`."""
    return data_uri(webp(shrink(error_colours(error), _ERROR_WIDTH), 70))


def error_colours(error: np.ndarray) -> np.ndarray:
    """(h, w) float32 grey levels to (h, w, 3) uint8 RGB: black is 0, pale yellow `ERROR_RANGE` or more."""
    levels = np.clip(error * (255 / ERROR_RANGE), 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """Reduces a picture to the width; a smaller picture is not enlarged."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def webp(picture: np.ndarray, quality: int) -> bytes:
    """Encodes a lossy WebP file."""
    file = io.BytesIO()
    # method 2 of 6: files a fifth larger than with the slowest method, in a quarter of its time
    Image.fromarray(np.ascontiguousarray(picture)).save(file, 'WEBP', quality=quality, method=2)
    return file.getvalue()


def data_uri(file: bytes) -> str:
    """Encodes a WebP file as a data URI."""
    return f'data:image/webp;base64,{base64.b64encode(file).decode()}'
