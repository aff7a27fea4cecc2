"""Motion blur: the sub-frames of one exposure, averaged where numbers are proportional to light."""

from collections.abc import Iterable

import cv2
import numpy as np

from pdan_plugin.synthesis.camera_response import Response

# REDS: 65 sub-frames at 1920 a second, frames at 24 a second (80 sub-frames apart); the nominal open share is 64 / 80.
DUTY_CYCLE = 0.8


def average_subframes(subframes: Iterable[np.ndarray], response: Response) -> np.ndarray:
    """Blurred frame: response(mean of inverse response(sub-frame)).

    Args:
        subframes: uint8 (h, w, 3), all of one size; taken one after another, so a generator is never held in memory.
        response: The camera's response.

    Returns:
        uint8 (h, w, 3).

    Raises:
        ValueError: No sub-frame came, or their sizes differ.
    """
    light: np.ndarray | None = None
    count = 0
    for subframe in subframes:
        if light is None:
            light = np.zeros(subframe.shape, np.float64)
        elif subframe.shape != light.shape:
            raise ValueError(f'sub-frame {count} is {subframe.shape}, the ones before it are {light.shape}')
        cv2.accumulate(response.to_linear(subframe), light)
        count += 1
    if light is None:
        raise ValueError('an exposure needs at least one sub-frame')
    return response.from_linear(light / count)


def exposure_times(centre: float, count: int, duty_cycle: float = DUTY_CYCLE) -> np.ndarray:
    """Moments of the sub-frames of an exposure around ``centre``, in frame intervals.

    Each stands in the middle of its share of the exposure, so that their average has no bias for a steady motion; with
    an odd ``count`` the middle one is exactly ``centre``, the ground truth.

    Returns:
        float64 (count,), increasing.
    """
    if count < 1 or count % 2 == 0:
        raise ValueError(f'an odd number of sub-frames is needed for one to stand in the centre, got {count}')
    return centre + duty_cycle * (np.arange(count) - count // 2) / count
