"""Interpolates frames by optical flow: no weights, some tens of milliseconds per 720p frame on one core.

Once per pair: OpenCV's DIS optical flow (Kroeger et al., ECCV 2016) in both directions, repaired around moving objects
(`flow_repair`). Once per new frame:

1. Each flow proposes a motion for every pixel of the new frame: the motion that leads from its source frame to that
   pixel (fixed-point iteration, at half resolution).
2. A proposal is rated at its two ends, one in each frame: by how similar they look, and by whether the flow measured
   there leads to this pixel. If it leads elsewhere, the pixel is hidden in that frame. The better proposal is used.
3. Both frames are sampled along it, at full resolution, and blended by nearness in time and by visibility.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import one_thread
from pdan_plugin.synthesis.flow_repair import Motion, Plane, repaired

# OpenCV cannot sample pictures of 32767 pixels a side or more at fractional positions; frames are doubled first.
_MOST_SIDE = 16383
# DIS reads outside its memory if a side is below 16 pixels (OpenCV 5.0): smaller frames are padded.
_LEAST_SIDE = 32
_FOLLOWING_STEPS = 2
# How far a flow may miss its pixel: in half-resolution pixels, plus a share of the motion's length.
_MISS, _MISS_SHARE = 0.5, 0.1
# Grey levels: ends that differ by this are equally likely to show the same thing or different things.
_DIFFERENCE = 12.0
_WINDOW = (5, 5)  # over which differences are averaged
# Weight of a hidden end: if both ends are hidden, nearness in time decides.
_LEAST_WEIGHT = 0.02
# Sum of the two blending weights. OpenCV adds 1e-5 to the sum before dividing by it. With a sum of 1, every half grey
# level would be rounded down, and equal shares would be a quarter of a level too dark on average.
_FULL_WEIGHT = np.float32(1024)
# Interpolates halfway between two pixels: the half-sample filter of HEVC (H.265, 8.5.3.3.3).
_HALF_PIXEL = np.array([[-1, 4, -11, 40, 40, -11, 4, -1]], np.float32) / 64


class FlowInterpolation:
    """The method ``flow``: frames of any size up to 16383 pixels a side, any ``count``, on the CPU."""

    name = 'flow'

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {'flow': 'DIS, preset medium, repaired', 'opencv': cv2.__version__}

    def between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """See :class:`~pdan_plugin.synthesis.frame_interpolation.Interpolator`."""
        if first.shape != second.shape or first.shape[2:] != (3,) or not first.dtype == second.dtype == np.uint8:
            raise ValueError(
                f'two uint8 (h, w, 3) of one size expected, not {first.dtype} {first.shape} and {second.dtype} '
                f'{second.shape}'
            )
        if max(first.shape) > _MOST_SIDE:
            raise RequestError(
                f'the interpolator flow takes frames of up to {_MOST_SIDE} pixels a side, not '
                f'{first.shape[1]}x{first.shape[0]}; make them smaller first'
            )
        if np.array_equal(first, second):
            yield from (first.copy() for _ in range(1, count))
        elif count > 1:
            pair = _Pair(first, second)
            yield from (pair.at(number / count) for number in range(1, count))


class _Flow(NamedTuple):
    """Motion in half-resolution pixels from one frame to the other.

    Attributes:
        together: (h, w, 4): x, y, luminance of the source frame, and 0; OpenCV reads four channels faster than three.
    """

    x: Plane
    y: Plane
    together: np.ndarray


class _Proposal(NamedTuple):
    """A motion from the first frame to the second for every pixel of the new one, in half-resolution pixels.

    Attributes:
        cost: How bad the proposal is, in grey levels.
        visible: Visibility of the pixel in the first and in the second frame, 0 to 1.
    """

    x: Plane
    y: Plane
    cost: Plane
    visible: tuple[Plane, Plane]


class _Pair:
    """Everything that is computed once per pair of frames."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self.size = first.shape[1], first.shape[0]
        self.half = (self.size[0] + 1) // 2, (self.size[1] + 1) // 2
        self.scale = self.size[0] / self.half[0], self.size[1] / self.half[1]
        self.x, self.y = _grid(self.half)
        self.doubled_x, self.doubled_y = (2 * plane for plane in _grid(self.size))
        self.doubled = _doubled(first), _doubled(second)
        greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
        forward, backward = _optical_flows(*greys)
        small = [cv2.cvtColor(self._halved(frame), cv2.COLOR_RGB2RGBA) for frame in (first, second)]
        motions = repaired(self._motion(forward), self._motion(backward), *small)
        flows = []
        for (x, y), grey in zip(motions, greys, strict=True):
            luminance = self._halved(grey).astype(np.float32)
            flows.append(_Flow(x, y, cv2.merge([x, y, luminance, np.zeros_like(x)])))
        self.forward, self.backward = flows

    def _halved(self, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, self.half, interpolation=cv2.INTER_AREA)

    def _motion(self, flow: np.ndarray) -> Motion:
        x, y = cv2.split(self._halved(flow))
        return x / np.float32(self.scale[0]), y / np.float32(self.scale[1])

    def at(self, time: float) -> np.ndarray:
        """The frame at ``time``, uint8 (h, w, 3); 0 is the first frame and 1 the second."""
        x, y = self._followed(self.forward, time)
        forward = self._judged(x, y, time)
        x, y = self._followed(self.backward, 1 - time)
        backward = self._judged(-x, -y, time)
        better = backward.cost < forward.cost

        def chosen(one: Plane, other: Plane) -> Plane:
            return np.where(better, other, one)

        weights = [
            share * (chosen(one, other) + _LEAST_WEIGHT)
            for share, one, other in zip((1 - time, time), forward.visible, backward.visible, strict=True)
        ]
        first_weight = cv2.resize(cv2.blur(_FULL_WEIGHT * weights[0] / (weights[0] + weights[1]), (3, 3)), self.size)
        x = cv2.resize(chosen(forward.x, backward.x) * np.float32(2 * self.scale[0]), self.size)
        y = cv2.resize(chosen(forward.y, backward.y) * np.float32(2 * self.scale[1]), self.size)
        first, second = (
            _read(doubled, cv2.scaleAdd(x, way, self.doubled_x), cv2.scaleAdd(y, way, self.doubled_y))
            for doubled, way in zip(self.doubled, (-time, 1 - time), strict=True)
        )
        return cv2.cvtColor(
            cv2.blendLinear(first, second, first_weight, _FULL_WEIGHT - first_weight), cv2.COLOR_RGBA2RGB
        )

    def _followed(self, flow: _Flow, time: float) -> tuple[Plane, Plane]:
        """The flow v that arrives at each pixel x after ``time``: v = flow(x - time * v)."""
        x, y = flow.x, flow.y
        for _ in range(_FOLLOWING_STEPS):
            ends = self.x - time * x, self.y - time * y
            x, y = _read(flow.x, *ends), _read(flow.y, *ends)
        return x, y

    def _judged(self, x: Plane, y: Plane, time: float) -> _Proposal:
        seen, visible = [], []
        length = x * x + y * y
        for flow, way in ((self.forward, time), (self.backward, time - 1)):
            end_x, end_y = self.x - way * x, self.y - way * y
            flow_x, flow_y, luminance, _ = cv2.split(_read(flow.together, end_x, end_y))
            seen.append(luminance)
            # The backward flow has the opposite sign.
            compare = cv2.subtract if way > 0 else cv2.add
            miss_x, miss_y = compare(flow_x, x), compare(flow_y, y)
            miss = (miss_x * miss_x + miss_y * miss_y) / (length * _MISS_SHARE**2 + (_MISS / way) ** 2)
            visible.append(self._inside(end_x, end_y) / (1 + miss * miss))
        difference = cv2.blur(cv2.absdiff(*seen), _WINDOW)
        relative = (difference * (1 / _DIFFERENCE)) ** 2
        # If both ends look the same, both are visible, even if the flows disagree.
        same = 1 / (1 + relative * relative)
        first, second = (each + same * (1 - each) for each in visible)
        both = first * second
        # A pixel visible in only one frame cannot be compared: it costs a fixed difference; in neither, twice that.
        cost = both * np.minimum(difference, 2 * _DIFFERENCE) + (2 - both - np.maximum(first, second)) * _DIFFERENCE
        return _Proposal(x, y, cost, (first, second))

    def _inside(self, x: Plane, y: Plane) -> np.ndarray:
        width, height = self.half
        return (np.abs(x - (width - 1) / 2) <= width / 2) & (np.abs(y - (height - 1) / 2) <= height / 2)


def _grid(size: tuple[int, int]) -> tuple[Plane, Plane]:
    """x and y of every pixel."""
    width, height = size
    x = np.broadcast_to(np.arange(width, dtype=np.float32), (height, width))
    y = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], (height, width))
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _read(image: np.ndarray, x: Plane, y: Plane) -> np.ndarray:
    """``image`` at fractional positions, its edge pixels repeated outside."""
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _doubled(frame: np.ndarray) -> np.ndarray:
    """The frame at twice the resolution: (h, w, 3) to (2h, 2w, 4).

    Linear sampling of the result keeps far more fine detail than linear sampling of the frame, and reproduces a
    motionless frame exactly. OpenCV reads four channels twice as fast as three.
    """
    height, width = frame.shape[:2]
    frame = cv2.cvtColor(frame, cv2.COLOR_RGB2RGBA)
    right = cv2.filter2D(frame, -1, _HALF_PIXEL, anchor=(3, 0), borderType=cv2.BORDER_REPLICATE)
    rows = cv2.merge([frame, right]).reshape(height, 2 * width, 4)
    below = cv2.filter2D(rows, -1, _HALF_PIXEL.T, anchor=(0, 3), borderType=cv2.BORDER_REPLICATE)
    return np.stack([rows, below], axis=1).reshape(2 * height, 2 * width, 4)


def _optical_flows(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float32 (h, w, 2) from the first grey frame to the second and back, in pixels."""
    height, width = first.shape
    padding = 0, max(0, _LEAST_SIDE - height), 0, max(0, _LEAST_SIDE - width)
    first, second = (cv2.copyMakeBorder(grey, *padding, cv2.BORDER_REPLICATE) for grey in (first, second))
    # A new object every time: DIS keeps parameters chosen for the previous size.
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    unknown = np.empty((0, 0), np.float32)  # not the frames' size: DIS starts without an initial flow
    # DIS cuts a frame into as many strips as OpenCV has threads, and its result depends on the cuts.
    with one_thread():
        forward = method.calc(first, second, unknown)
        backward = method.calc(second, first, unknown)
    return forward[:height, :width], backward[:height, :width]
