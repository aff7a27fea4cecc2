"""The conditions of rendered clips: the share of each kind in a set, and the kind of each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import sqrt

import cv2
import numpy as np

from pdan_plugin.synthesis.camera_response import response

# Light of a dark or bright clip, relative to its photograph. Drawn evenly in stops between the two limits.
DARK_GAINS = (0.1, 0.4)
BRIGHT_GAINS = (1.4, 2.5)

# The fractional parts of these steps' multiples are spread evenly and independently of each other.
_STEPS = {'stills': sqrt(2), 'still_camera': sqrt(3), 'sharp': sqrt(5), 'light': sqrt(7), 'soft_stills': sqrt(11)}


@dataclass(frozen=True)
class Conditions:
    """The conditions of one clip.

    Attributes:
        stills: Each frame is a separate still picture without motion; unless soft_stills, with exactly the
            photograph's pixels.
        soft_stills: The still pictures have softness and defocus.
        still_camera: The camera rests; objects in front of it move and blur.
        sharp: No softness of the camera and no defocus.
        gain: Factor of the light; 1 leaves the photograph unchanged.
    """

    stills: bool = False
    soft_stills: bool = False
    still_camera: bool = False
    sharp: bool = False
    gain: float = 1.0


@dataclass(frozen=True)
class Shares:
    """Shares of a set of clips, from 0 to 1.

    Attributes:
        stills: Share of all clips: frames are still pictures.
        soft_stills: Share of those: they have softness and defocus.
        still_camera: Share of the other clips: the camera rests.
        sharp: Share of the other clips: no softness and no defocus.
        dark: Share of all clips: less light (`DARK_GAINS`).
        bright: Share of all clips: more light (`BRIGHT_GAINS`), which loses highlights.

    Raises:
        ValueError: A share is not between 0 and 1, or dark and bright are above 1 together.
    """

    stills: float = 0.0
    still_camera: float = 0.0
    sharp: float = 0.0
    dark: float = 0.0
    bright: float = 0.0
    soft_stills: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f'the share {field.name} must be between 0 and 1, got {getattr(self, field.name)}')
        if self.dark + self.bright > 1:
            raise ValueError(
                f'the shares dark and bright must not exceed 1 together, got {self.dark} and {self.bright}'
            )

    def record(self) -> Mapping[str, float]:
        """The shares by name, without soft_stills if there are none, as records were written before there could be."""
        return {name: share for name, share in asdict(self).items() if share or name != 'soft_stills'}

    def of_clip(self, number: int, seed: tuple[int, ...]) -> Conditions:
        """The conditions of the ``number``-th clip of a set.

        Any consecutive clips have each share to within a clip or two. A longer set begins with a shorter set's clips.

        Args:
            number: From 0.
            seed: The set's seed; it decides where each kind begins and how dark or bright a clip is.
        """
        begins = dict(zip(_STEPS, np.random.default_rng([*seed, 0]).uniform(size=len(_STEPS)), strict=True))
        place = {kind: (begins[kind] + number * step) % 1 for kind, step in _STEPS.items()}
        stills = place['stills'] < self.stills
        light, gain = place['light'], 1.0
        for is_meant, gains in (
            (light < self.dark, DARK_GAINS),
            (self.dark <= light < self.dark + self.bright, BRIGHT_GAINS),
        ):
            if is_meant:
                gain = float(np.exp(np.random.default_rng([*seed, 1, number]).uniform(*np.log(gains))))
        return Conditions(
            stills=stills,
            soft_stills=stills and place['soft_stills'] < self.soft_stills,
            still_camera=not stills and place['still_camera'] < self.still_camera,
            sharp=not stills and place['sharp'] < self.sharp,
            gain=gain,
        )


AS_PHOTOGRAPHED, NO_SHARES = Conditions(), Shares()


def relit(picture: np.ndarray, gain: float, response_name: str) -> np.ndarray:
    """The picture with ``gain`` times its light, as the same camera would write it; saturated at 255.

    Args:
        picture: uint8 (h, w, 3).
        gain: Above 0.
        response_name: The camera response (`camera_response.response`).
    """
    if gain == 1.0:
        return picture
    camera = response(response_name)
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)[None]
    table = camera.from_linear(camera.to_linear(levels) * np.float32(gain))
    return cv2.LUT(picture, table)
