"""Scene cuts: detects whether two neighbouring frames show different scenes, from these two frames alone.

One frame is warped onto the other by optical flow, and their structure is compared. The flow explains pans, rotations
and passing objects, and a change of brightness does not change structure. There is a cut if too much structure remains
unexplained. Dissolves and cuts between nearly featureless pictures are not detected.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

# In tests on real films, `scene_change` was above 0.8 at cuts and below 0.4 in fast motion.
CUT_THRESHOLD = 0.45

# Frames are compared at this size: noise and detail are averaged out, and a pan by a quarter of the picture can still
# be followed. For much smaller or narrower pictures DIS changes its settings and, in OpenCV 5.0, reads outside them.
_LONG_SIDE, _SHORT_SIDE = 160, 40  # pixels; the short side is at least this
_NEIGHBOURHOOD = 3.0  # standard deviation of the comparison window, in pixels of the small picture
_NOISE = 20.0  # variance in squared grey levels below which a neighbourhood counts as featureless
_LEAST_OVERLAP = 0.4  # share of a picture that must land inside the other; below it they cannot be compared
_EXPLAINED = 0.3  # below it, the flow is not started a second time


def is_cut(first: np.ndarray, second: np.ndarray, threshold: float = CUT_THRESHOLD) -> bool:
    """Whether a new scene begins with ``second``; both (h, w, 3) uint8 RGB of one size."""
    return scene_change(first, second) > threshold


def scene_change(first: np.ndarray, second: np.ndarray) -> float:
    """The share of one frame's structure that no motion matches with the other: 0 (the same) to 1 (nothing in common).

    The smaller value of the two directions counts, because an object that leaves uncovers new background.

    Shape:
        (h, w, 3) uint8 RGB twice

    Raises:
        ValueError: The frames differ in size.
    """
    if first.shape != second.shape:
        raise ValueError(f'two frames of one size expected, got {first.shape} and {second.shape}')
    one, other = _small_grey(first), _small_grey(second)
    shift = _common_shift(one, other)
    return min(_unexplained(one, other, shift), _unexplained(other, one, -shift))


def _small_grey(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = _LONG_SIDE / max(height, width)
    size = (max(_SHORT_SIDE, round(width * scale)), max(_SHORT_SIDE, round(height * scale)))
    return cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def _common_shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(dx, dy) in pixels by which the whole picture moves: a start for pans that are too fast for the flow alone."""
    window = cv2.createHanningWindow((one.shape[1], one.shape[0]), cv2.CV_32F)
    shift, _ = cv2.phaseCorrelate(one.astype(np.float32), other.astype(np.float32), window)
    return np.nan_to_num(np.array(shift, np.float32), posinf=0, neginf=0)


def _unexplained(one: np.ndarray, other: np.ndarray, shift: np.ndarray) -> float:
    left = _unlike(one, other, np.zeros(2, np.float32))
    if left > _EXPLAINED:
        left = min(left, _unlike(one, other, shift))
    return left


def _unlike(one: np.ndarray, other: np.ndarray, shift: np.ndarray) -> float:
    # The picture is shifted first: with a large initial flow, DIS reads outside its memory (OpenCV 5.0).
    moved = cv2.warpAffine(
        other,
        np.array([[1, 0, shift[0]], [0, 1, shift[1]]]),
        one.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    flow = _optical_flow().calc(one, moved, None) + shift  # type: ignore[arg-type]  # None: a new array
    height, width = one.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    columns, rows = columns + flow[..., 0], rows + flow[..., 1]
    inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
    if inside.mean() < _LEAST_OVERLAP:
        return 1.0
    carried = cv2.remap(other, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # The contrast and structure terms of SSIM, without the brightness term, so that a flash is no cut.
    x, y = one.astype(np.float32), carried.astype(np.float32)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = np.maximum(_blurred(x * x) - mean_x**2, 0)
    variance_y = np.maximum(_blurred(y * y) - mean_y**2, 0)
    covariance = _blurred(x * y) - mean_x * mean_y
    likeness = np.clip((2 * covariance + _NOISE) / (variance_x + variance_y + _NOISE), 0, 1)
    weight = np.sqrt(np.maximum(variance_x, variance_y)) * inside
    total = float(weight.sum())
    return 1 - float((weight * likeness).sum()) / total if total > 0 else 0.0


def _blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), _NEIGHBOURHOOD)


@functools.lru_cache(maxsize=1)
def _optical_flow() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
