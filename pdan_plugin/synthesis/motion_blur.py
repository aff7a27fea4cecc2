"""Motion blur: averages the sub-frames of one exposure in linear light."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.camera_response import Response

if TYPE_CHECKING:
    from pdan_plugin.synthesis.frame_interpolation import Interpolator

# REDS: 65 sub-frames at 1920 fps, frames at 24 fps (80 sub-frames apart); the shutter is nominally open for 64 / 80.
DUTY_CYCLE = 0.8


def average_subframes(subframes: Iterable[np.ndarray], response: Response) -> np.ndarray:
    """Blurred frame: response(mean of inverse response(sub-frame)).

    Args:
        subframes: uint8 (h, w, 3), all of one size; read one at a time, so a generator needs little memory.
        response: The camera's response.

    Returns:
        uint8 (h, w, 3).

    Raises:
        ValueError: There is no sub-frame, or sizes differ.
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
    """Times of the sub-frames of an exposure around ``centre``, in frame intervals.

    Each time is the middle of its share of the exposure, so the average has no bias for steady motion. The middle
    sub-frame is at exactly ``centre``, the ground truth.

    Returns:
        float64 (count,), increasing.

    Raises:
        ValueError: ``count`` is not odd.
    """
    if count < 1 or count % 2 == 0:
        raise ValueError(f'the number of sub-frames must be odd, so that one is in the centre, got {count}')
    return centre + duty_cycle * (np.arange(count) - count // 2) / count


@dataclass(frozen=True)
class SubframeWindow:
    """The ``length`` sub-frames averaged around a source frame; ``factor`` sub-frames make one source interval.

    REDS: 65 sub-frames at a factor of 16, which are four whole intervals between five source frames.

    Raises:
        RequestError: The factor is below 1, or the length is not an odd number of at least 3.
    """

    factor: int = 16
    length: int = 65

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise RequestError(f'factor must be at least 1, got {self.factor}')
        if self.length < 3 or self.length % 2 == 0:
            raise RequestError(
                f'window must be odd, so that the ground truth is in its middle, and at least 3; got {self.length} '
                '(the paper: 65)'
            )

    @property
    def whole(self) -> int:
        """Number of source intervals completely inside the window, on each side of the centre."""
        return self.length // 2 // self.factor

    @property
    def rest(self) -> int:
        """Number of sub-frames beyond these intervals, on each side."""
        return self.length // 2 % self.factor

    @property
    def reach(self) -> int:
        """Source frames needed on each side of the centre."""
        return self.whole + (self.rest > 0)

    @property
    def frames(self) -> int:
        """Source frames needed in all."""
        return 2 * self.reach + 1


class WindowAverage:
    """Blurred frames of one clip, each the average of a window of sub-frames; shared intervals are computed once.

    Interpolated frames are read one at a time. The sums of an interval depend only on its two frames and are added in
    a fixed order, so a window's bytes do not depend on earlier windows. The sums of one window's intervals are kept.
    """

    def __init__(self, window: SubframeWindow, interpolator: Interpolator, response: Response) -> None:
        self.window = window
        self._interpolator = interpolator
        self._response = response
        self._kept: dict[int, dict[str, np.ndarray]] = {}

    def blurred(self, centre: int, frames: Mapping[int, np.ndarray]) -> np.ndarray:
        """Blurred frame around a source frame, uint8 (h, w, 3).

        Args:
            centre: Number of the source frame.
            frames: Source frames ``centre - window.reach`` to ``centre + window.reach`` by number, uint8 RGB (h, w, 3).
        """
        whole, rest, reach = self.window.whole, self.window.rest, self.window.reach
        first, last = centre - reach, centre + reach
        self._kept = {start: sums for start, sums in self._kept.items() if first <= start < last}
        for start in range(first, last):
            if start not in self._kept:
                self._kept[start] = self._sums(frames[start], frames[start + 1])
        light = np.zeros(frames[centre].shape, np.float64)
        if rest:
            light += self._kept[first]['tail']
        for start in range(centre - whole, centre + whole):
            light += self._kept[start]['whole']
        cv2.accumulate(self._response.to_linear(frames[centre + whole]), light)
        if rest:
            light += self._kept[centre + whole]['head']
        light /= self.window.length
        return self._response.from_linear(light)

    def _sums(self, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
        """Sums of light over one source interval, float64 (h, w, 3); only those the window needs.

        ``whole``: the first source frame and all sub-frames after it. ``head``, ``tail``: the first and the last few
        sub-frames, for windows that end or begin inside this interval.
        """
        factor, rest = self.window.factor, self.window.rest
        sums: dict[str, np.ndarray] = {}
        if self.window.whole:
            sums['whole'] = self._response.to_linear(first).astype(np.float64)
        if rest:
            sums |= {part: np.zeros(first.shape, np.float64) for part in ('head', 'tail')}
        number = 0
        for number, frame in enumerate(self._interpolator.between(first, second, factor) if factor > 1 else (), 1):
            light = self._response.to_linear(frame)
            within = {'whole': True, 'head': number <= rest, 'tail': number >= factor - rest}
            for part, total in sums.items():
                if within[part]:
                    cv2.accumulate(light, total)
        if number != factor - 1:
            raise ValueError(f'{self._interpolator.name}: {factor - 1} frames between two expected, {number} came')
        return sums
