"""The random part of a training sample.

It depends only on (seed, epoch, repeat, index), so the number of workers does not matter.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from pdan_plugin.data.seeded_bytes import seeded_bytes

BRIGHTNESS_PROBABILITY = 0.5
BRIGHTNESS_RANGE = (0.8, 1.2)

# The draws are words of a hash. This is much faster than a random generator per sample, and gives the same values on
# every machine and with every version of numpy.
_DRAWN = struct.Struct('<5Q')
_WHOLE = 2**64


@dataclass(frozen=True)
class Draws:
    """The draws for one sample. ``top`` and ``left`` are in LR pixels; ``brightness`` is a gain, 1 if off."""

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

    Flips and the transposition are the toolbox's: each with probability 1/2, the last two only with ``use_rot``.
    Everything is always drawn, so turning one augmentation off does not change the others.

    The paper says only "brightness"; our reading is one gain from 0.8 to 1.2 with probability 1/2.

    >>> place = {'seed': 0, 'epoch': 2, 'repeat': 0, 'index': 7, 'places': (117, 257)}
    >>> draws = draw(**place, use_hflip=True, use_rot=True, use_brightness=False)
    >>> draws.top, draws.left, draws.hflip, draws.vflip, draws.transpose, draws.brightness
    (86, 122, False, True, False, 1.0)
    """
    drawn = seeded_bytes(_DRAWN.size, seed, epoch, repeat, index, purpose='augmentation')
    row, column, coins, chance, strength = _DRAWN.unpack(drawn)
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
    """Flip and transpose an (h, w, 3) image, in the toolbox's order: left-right, up-down, transposed.

    >>> draws = Draws(top=0, left=0, hflip=True, vflip=False, transpose=True, brightness=1.0)
    >>> turn(np.zeros((4, 6, 3), np.uint8), draws).shape
    (6, 4, 3)
    """
    if draws.hflip and draws.vflip:
        image = cv2.flip(image, -1)
    elif draws.hflip or draws.vflip:
        image = cv2.flip(image, 1 if draws.hflip else 0)
    return cv2.transpose(image) if draws.transpose else image
