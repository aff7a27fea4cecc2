"""Small pictures of several kinds, made from photographs: blurred or not, with noise or not, as PNG or JPEG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.synthesis.bicubic import imresize

SCALE = 4
LARGEST = (1280, 720)  # width and height of a photograph that is degraded
_KERNEL_SIDE = 31

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """How a small picture is made.

    Attributes:
        blur: Length of a straight motion in pixels of the photograph; 0 is none.
        noise: Standard deviation of Gaussian noise in grey levels, added to the small picture; 0 is none.
        quality: JPEG quality; None for PNG.
    """

    blur: int
    noise: int
    quality: int | None

    def __str__(self) -> str:
        """As in ``blur 12, noise 4, JPEG 75``."""
        parts = [f'{word} {value}' for word, value in (('blur', self.blur), ('noise', self.noise)) if value]
        return ', '.join([*(parts or ['sharp']), 'PNG' if self.quality is None else f'JPEG {self.quality}'])

    @property
    def file_name(self) -> str:
        return f'blur{self.blur}_noise{self.noise}' + ('.png' if self.quality is None else f'_q{self.quality}.jpg')


KINDS = tuple(Kind(blur, noise, quality) for blur in (0, 12) for noise in (0, 4) for quality in (None, 75))


def ground_truth(photograph: Pixels) -> Pixels:
    """A photograph made smaller until one side fits ``LARGEST``, and its middle of at most that size.

    Shape:
        (h, w, 3) -> (h', w', 3), both sides multiples of 4
    """
    height, width = photograph.shape[:2]
    scale = min(1, max(LARGEST[0] / width, LARGEST[1] / height))
    if scale < 1:
        photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    height, width = photograph.shape[:2]
    h, w = min(LARGEST[1], height) // SCALE * SCALE, min(LARGEST[0], width) // SCALE * SCALE
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(photograph[top : top + h, left : left + w])


def small_pictures(truth: Pixels, number: int) -> Iterator[tuple[Kind, Pixels]]:
    """The kinds of one photograph before they are stored; each 4x smaller, RGB.

    Args:
        truth: See :func:`ground_truth`.
        number: Of the photograph; the angle of its motion (in radians) and its noise depend on it.
    """
    for blur, noise in dict.fromkeys((kind.blur, kind.noise) for kind in KINDS):
        picture = truth.astype(np.float32)
        if blur:
            kernel = _motion_kernel(number, blur)
            picture = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT)
        planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        small = imresize(planes.double(), 1 / SCALE).numpy().transpose(1, 2, 0).clip(0, 255)
        if noise:
            small = small + np.random.default_rng([number, blur]).normal(0, noise, small.shape)
        stored = small.clip(0, 255).round().astype(np.uint8)
        yield from ((kind, stored) for kind in KINDS if (kind.blur, kind.noise) == (blur, noise))


def store(picture: Pixels, kind: Kind, stem: str, folder: Path) -> Path:
    """Writes a small picture as ``FOLDER/STEM_KIND.png`` or ``.jpg``, and returns the path."""
    path = folder / f'{stem}_{kind.file_name}'
    image = Image.fromarray(picture)
    if kind.quality is None:
        image.save(path)
    else:
        image.save(path, quality=kind.quality)
    return path


def _motion_kernel(angle: float, length: float) -> NDArray[np.float64]:
    kernel = np.zeros((_KERNEL_SIDE, _KERNEL_SIDE))
    middle = _KERNEL_SIDE // 2
    for step in np.linspace(-length / 2, length / 2, 200):
        kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] += 1
    return kernel / kernel.sum()
