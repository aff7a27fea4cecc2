"""Motion blur, noise, JPEG compression and other resampling, added to an LR picture while it is read.

The draws for a sample depend only on (seed, epoch, repeat, index), so the number of workers does not matter.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from pdan_plugin.data.seeded_bytes import seeded_bytes
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.sections import Degradation
from pdan_plugin.option_schema.validation import read_section
from pdan_plugin.synthesis.bicubic import cubic
from pdan_plugin.synthesis.motion_kernel import motion_kernel

_WORDS = struct.Struct('<16I')
_MOTION_WORDS = struct.Struct('<4I')
_WHOLE = 2**32
_BLOCK = 16  # pixels of a JPEG's largest unit, two blocks of 8; a crop's position in it is drawn
_MIDDLE_GREY = 127.5
_FULL_COLOUR_CHANCE = 0.25  # probability that a JPEG's colour planes are not halved
_LEAST_MOTION = 0.05  # pixels; a shorter path blurs nothing that 8 bits could show
_LARGEST_BEND = math.pi / 2  # radians; most paths are nearly straight
_FILTER_REACH = 2  # pixels to either side


@dataclass(frozen=True)
class DegradationDraws:
    """The draws for one sample.

    Attributes:
        motion: Arguments of :func:`~pdan_plugin.synthesis.motion_kernel.motion_kernel`; None for no blur.
        resampling: ``bicubic`` (the picture as stored), ``area`` or ``bilinear``.
        noise_sigma: Standard deviation in grey levels of 255; 0 for no noise.
        noise_follows_signal: Whether the variance is proportional to the grey level, with ``noise_sigma`` at 127.5.
        noise_seed: Seed of the noise generator, 128 bits.
        jpeg_quality: 1 to 100, or None for no compression.
        jpeg_offset: (row, column), 0 to 15, of the picture's first pixel inside a unit of 16x16.
        jpeg_full_colour: Whether the colour planes have the full size (4:4:4) instead of half of it (4:2:0).
    """

    motion: tuple[float, float, float] | None
    resampling: str
    noise_sigma: float
    noise_follows_signal: bool
    noise_seed: int
    jpeg_quality: int | None
    jpeg_offset: tuple[int, int]
    jpeg_full_colour: bool


class LQDegradation:
    """Degrades LR pictures as set in the section ``degradation`` of a data set.

    The order is that of a camera: motion blur, resampling, noise, rounding to 8 bits, JPEG.

    Args:
        options: The section of the option file; `option_schema.sections.Degradation` lists its keys.
        label: The data set, for messages.
        scale: How many times smaller the LR pictures are; the filters of ``area`` and ``bilinear`` depend on it.

    Raises:
        RequestError: A key or value that the section does not allow, or another resampling at scale 1.

    >>> degradation = LQDegradation({'jpeg_quality': [40, 95]}, 'data set', scale=4)
    >>> draws = degradation.draw(seed=0, epoch=2, repeat=0, index=7)
    >>> degradation.apply(np.zeros((16, 24, 3), np.uint8), draws).shape
    (16, 24, 3)
    """

    def __init__(self, options: Mapping[str, Any], label: str, scale: int) -> None:
        self.settings = read_section(Degradation, options, f'{label}: degradation')
        self._scale = scale
        if scale < 2 and set(self.settings.resize or ()) - {'bicubic'}:
            raise RequestError(
                f'{label}: degradation: resize: at scale {scale} no picture was made smaller, so there is no other '
                'resampling; remove this key'
            )

    def draw(self, *, seed: int, epoch: int, repeat: int, index: int) -> DegradationDraws:
        """Draw for one sample. One key does not change the draws of another: motion has draws of its own,
        and everything else is always drawn."""
        settings = self.settings
        drawn = seeded_bytes(_WORDS.size, seed, epoch, repeat, index, purpose='degradation')
        (
            resize_chance,
            resize_choice,
            noise_chance,
            sigma,
            signal,
            jpeg_chance,
            quality,
            row,
            column,
            colour,
            *_,
        ) = _WORDS.unpack(drawn)
        resampling, noise_sigma, jpeg_quality = 'bicubic', 0.0, None
        if settings.resize is not None and resize_chance < settings.resize_prob * _WHOLE:
            resampling = settings.resize[int(resize_choice * len(settings.resize) // _WHOLE)]
        if settings.noise_sigma is not None and noise_chance < settings.noise_prob * _WHOLE:
            least, most = settings.noise_sigma
            noise_sigma = least + (most - least) * sigma / _WHOLE
        if settings.jpeg_quality is not None and jpeg_chance < settings.jpeg_prob * _WHOLE:
            least, most = settings.jpeg_quality
            jpeg_quality = least + quality * (most - least + 1) // _WHOLE
        return DegradationDraws(
            motion=self._draw_motion(seed, epoch, repeat, index),
            resampling=resampling,
            noise_sigma=noise_sigma,
            noise_follows_signal=settings.poisson and signal < _WHOLE // 2,
            noise_seed=int.from_bytes(drawn[-16:], 'little'),
            jpeg_quality=jpeg_quality,
            jpeg_offset=(row * _BLOCK // _WHOLE, column * _BLOCK // _WHOLE),
            jpeg_full_colour=colour < _FULL_COLOUR_CHANCE * _WHOLE,
        )

    def _draw_motion(self, *numbers: int) -> tuple[float, float, float] | None:
        settings = self.settings
        if settings.motion_blur is None:
            return None
        drawn = _MOTION_WORDS.unpack(seeded_bytes(_MOTION_WORDS.size, *numbers, purpose='motion blur'))
        chance, length, direction, bend = (word / _WHOLE for word in drawn)
        if chance >= settings.motion_prob:
            return None
        least, most = settings.motion_blur
        length = least + (most - least) * length
        if length < _LEAST_MOTION:
            return None
        return length, math.pi * direction, _LARGEST_BEND * (2 * bend - 1) ** 3

    def apply(self, picture: np.ndarray, draws: DegradationDraws) -> np.ndarray:
        """The degraded picture; ``picture`` is not changed.

        Args:
            picture: (h, w, 3) uint8 RGB.
            draws: The result of `draw`.

        Returns:
            (h, w, 3) uint8 RGB, of the same size.
        """
        if draws.motion is not None or draws.resampling != 'bicubic' or draws.noise_sigma > 0:
            values = picture.astype(np.float32)
            if draws.motion is not None:
                values = cv2.filter2D(values, -1, motion_kernel(*draws.motion), borderType=cv2.BORDER_REFLECT_101)
            if draws.resampling != 'bicubic':
                kernel = resampling_filter(draws.resampling, self._scale)
                values = cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
            if draws.noise_sigma > 0:
                _add_noise(values, draws)
            picture = np.rint(values, out=values).clip(0, 255, out=values).astype(np.uint8)
        return picture if draws.jpeg_quality is None else _compressed(picture, draws)


def _add_noise(values: np.ndarray, draws: DegradationDraws) -> None:
    """Add noise to (h, w, 3) float32 grey levels, in place."""
    noise = np.random.Generator(np.random.PCG64(draws.noise_seed)).standard_normal(values.shape, dtype=np.float32)
    noise *= np.float32(draws.noise_sigma)
    if draws.noise_follows_signal:  # photon noise: the variance is proportional to the number of photons
        noise *= np.sqrt(np.maximum(values, 0) / np.float32(_MIDDLE_GREY))
    values += noise


def _compressed(picture: np.ndarray, draws: DegradationDraws) -> np.ndarray:
    """The picture compressed as JPEG, as part of a larger picture: its position in the block grid is drawn."""
    height, width = picture.shape[:2]
    top, left = draws.jpeg_offset
    # Pad to whole units at the right and bottom too; otherwise the encoder pads them in its own way.
    bottom, right = -(top + height) % _BLOCK, -(left + width) % _BLOCK
    padded = cv2.copyMakeBorder(
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), top, bottom, left, right, cv2.BORDER_REPLICATE
    )
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if draws.jpeg_full_colour else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    assert draws.jpeg_quality is not None
    settings = [cv2.IMWRITE_JPEG_QUALITY, draws.jpeg_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    encoded, data = cv2.imencode('.jpg', padded, settings)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if encoded else None
    if decoded is None:
        raise RuntimeError(f'OpenCV could not compress a picture of {width}x{height} as JPEG {draws.jpeg_quality}')
    return cv2.cvtColor(decoded[top : top + height, left : left + width], cv2.COLOR_BGR2RGB)


@cache
def resampling_filter(resampling: str, scale: int) -> np.ndarray:
    """A filter that makes a bicubic LR picture look as if another resampling had made it.

    MATLAB's bicubic, area averaging and the antialiased bilinear kernel attenuate frequencies differently. The filter
    is the symmetric one with five taps whose gain is nearest to the ratio of the two responses: least squares over the
    frequencies of the LR picture, weighted by the power pictures have there. Aliasing differs too and is not corrected.

    Args:
        resampling: ``area`` or ``bilinear``.
        scale: How many times smaller the LR picture is, 2 or more.

    Returns:
        (5,) float32, to be applied along rows and columns; its sum is 1.

    >>> [round(float(tap), 2) for tap in resampling_filter('area', 4)]
    [0.02, -0.02, 1.01, -0.02, 0.02]
    """
    frequencies = np.linspace(0.01, 0.5, 99)  # cycles per pixel of the LR picture
    start, wanted = (_response(_KERNELS[name], frequencies, scale) for name in ('bicubic', resampling))
    # The gain at frequency 0 is 1, so only the taps beside the middle are free.
    basis = np.stack([2 * (np.cos(2 * np.pi * n * frequencies) - 1) for n in range(1, _FILTER_REACH + 1)], axis=1)
    weight = start / frequencies
    side = np.linalg.lstsq(basis * (start * weight)[:, None], (wanted - start) * weight, rcond=None)[0]
    return np.array([*side[::-1], 1 - 2 * side.sum(), *side], np.float32)


def _response(kernel: Callable[[np.ndarray], np.ndarray], frequencies: np.ndarray, scale: int) -> np.ndarray:
    """Gain of a downsampling kernel, given in LR pixels and sampled at HR pixels, at frequencies of the LR picture."""
    places = (np.arange(-2 * scale, 2 * scale) + 0.5) / scale
    weights = kernel(np.abs(places))
    return np.cos(2 * np.pi * frequencies[:, None] * places) @ (weights / weights.sum())


_KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    'bicubic': cubic,
    'area': lambda x: (x < 0.5).astype(np.float64),
    'bilinear': lambda x: np.maximum(1 - x, 0),
}
