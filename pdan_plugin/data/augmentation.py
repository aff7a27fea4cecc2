"""The random part of a training sample.

It is decided by (seed, epoch, repeat, index) alone, so neither workers nor their number matter.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import cv2
import numpy as np

BRIGHTNESS_PROBABILITY = 0.5
BRIGHTNESS_RANGE = (0.8, 1.2)

# The draws are words of a hash: a small part of the cost of a generator made for one sample, and the same on every
# machine and with every version of numpy.
_DRAWN = struct.Struct('<5Q')
_WHOLE = 2**64


@dataclass(frozen=True)
class Draws:
    """What was drawn for one sample. ``top`` and ``left`` count LR pixels; ``brightness`` is a gain, 1 where off."""

    top: int
    left: int
    hflip: bool
    vflip: bool
    transpose: bool
    brightness: float


def draw(
    *,
    seed: int,
    epoch: int,
    repeat: int,
    index: int,
    places: tuple[int, int],
    use_hflip: bool,
    use_rot: bool,
    use_brightness: bool,
) -> Draws:
    """Draw the crop's place among ``places`` (rows, columns) and the augmentations.

    Flips and the transposition are the toolbox's: each with probability 1/2, the last two under ``use_rot``. Everything
    is drawn whether it is used or not, so turning one augmentation off leaves the others as they were.

    The paper says only "brightness"; our reading is one gain from 0.8 to 1.2 with probability 1/2.
    """
    words = f'{seed} {epoch} {repeat} {index}'.encode()
    digest = hashlib.blake2b(words, digest_size=_DRAWN.size, person=b'augmentation').digest()
    row, column, coins, chance, strength = _DRAWN.unpack(digest)
    least, most = BRIGHTNESS_RANGE
    gain = least + (most - least) * strength / _WHOLE if chance < BRIGHTNESS_PROBABILITY * _WHOLE else 1.0
    return Draws(
        top=row * places[0] // _WHOLE,
        left=column * places[1] // _WHOLE,
        hflip=use_hflip and bool(coins & 1),
        vflip=use_rot and bool(coins & 2),
        transpose=use_rot and bool(coins & 4),
        brightness=gain if use_brightness else 1.0,
    )


def turn(image: np.ndarray, draws: Draws) -> np.ndarray:
    """Flip and transpose an (h, w, 3) image, in the toolbox's order: left-right, up-down, transposed."""
    if draws.hflip and draws.vflip:
        image = cv2.flip(image, -1)
    elif draws.hflip or draws.vflip:
        image = cv2.flip(image, 1 if draws.hflip else 0)
    return cv2.transpose(image) if draws.transpose else image
