"""A moving scene made of photographs: a camera moves over one picture, and cut-outs of others move in front of it.

A scene renders the sharp picture at any moment; exposure and blur are computed elsewhere. Positions are in frame
pixels, angles in radians, times in frame intervals. Pictures are uint8 (h, w, 3); the channel order is the input's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch.nn import functional

# Layers have this many times the frame's resolution. Bilinear sampling then loses at most a tenth of the contrast at
# the frame's finest detail. It is exact in position, unlike OpenCV's cubic and Lanczos warps, and ten times faster.
SUPERSAMPLING = 3

_MARGIN = 4  # frame pixels kept unused along the border of a photograph
_MOST_TURN, _MOST_ZOOM = 0.2, 0.2  # largest range of a camera's angle (radians) and log zoom within a clip
_OUT_OF_FOCUS_CHANCE = 0.35
_FREQUENCIES = np.geomspace(1 / 64, 1 / 4, 8)  # of a hand-held camera, in cycles per frame interval


@dataclass(frozen=True)
class MotionPath:
    """Position (x, y), angle and log zoom over time: a steady drift and a sum of slow and quick oscillations.

    Attributes:
        rest: (4,) x, y, angle, log zoom at time 0 without the oscillations.
        drift: (4,) change per frame interval.
        amplitudes: (4, k) of the oscillations, one row each for x, y, angle, log zoom.
        phases: (4, k) of the oscillations.
        frequencies: (k,) in cycles per frame interval.
        rhythm: Depth (0 to 1), frequency and phase with which the oscillations speed up and slow down. A hand does not
            shake evenly; because of this some frames of a clip are nearly sharp.
    """

    rest: np.ndarray
    drift: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    frequencies: np.ndarray
    rhythm: tuple[float, float, float] = (0.0, 1.0, 0.0)

    @classmethod
    def steady(cls, rest: Sequence[float], drift: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> 'MotionPath':
        """Uniform motion, or rest."""
        empty = np.zeros((4, 0))
        return cls(np.asarray(rest, float), np.asarray(drift, float), empty, empty, np.zeros(0))

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """(n,) moments to (n, 4) states."""
        times = np.asarray(times, np.float64)[:, None]
        depth, frequency, phase = self.rhythm
        hurried = times + depth / (2 * np.pi * frequency) * np.sin(2 * np.pi * frequency * times + phase)
        waves = np.sin(2 * np.pi * hurried[:, None, :] * self.frequencies + self.phases)
        return self.rest + self.drift * times + (self.amplitudes * waves).sum(axis=2)


@dataclass(frozen=True)
class Layer:
    """A picture on a path. The path gives the position of its ``anchor``; it is rotated and zoomed about that point.

    Attributes:
        image: uint8 (h, w, 3).
        anchor: x, y in the image's pixels.
        path: Position of the anchor in the frame.
        mask: uint8 (h, w), 255 inside; None for a background, which must fill the frame at all times rendered.
        density: Image pixels per frame pixel at a zoom of 1.
    """

    image: np.ndarray
    anchor: tuple[float, float]
    path: MotionPath
    mask: np.ndarray | None = None
    density: float = SUPERSAMPLING

    def frame_to_image(self, times: np.ndarray) -> np.ndarray:
        """Affine maps (n, 2, 3) from the frame's pixels to the image's at (n,) moments."""
        x, y, angle, log_zoom = self.path(times).T
        scale = self.density * np.exp(-log_zoom)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        ax, ay = self.anchor
        return np.stack(
            [np.stack([cos, sin, ax - cos * x - sin * y], 1), np.stack([-sin, cos, ay + sin * x - cos * y], 1)], 1
        )

    def draw(self, frame: np.ndarray, time: float) -> None:
        """Draws the layer's picture at ``time`` over ``frame``, in place."""
        matrix = self.frame_to_image(np.array([time]))[0]
        height, width = frame.shape[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        if self.mask is None:
            cv2.warpAffine(self.image, matrix, (width, height), dst=frame, flags=flags, borderMode=cv2.BORDER_REFLECT)
            return
        corners = _apply(cv2.invertAffineTransform(matrix), _corners(self.image.shape[1], self.image.shape[0]))
        left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
        if right <= left or bottom <= top:
            return
        matrix[:, 2] += matrix[:, :2] @ (left, top)
        size = (int(right - left), int(bottom - top))
        picture = cv2.warpAffine(self.image, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        mask = cv2.warpAffine(self.mask, matrix, size, flags=flags)  # 0 outside
        part = frame[top:bottom, left:right]
        opacity = mask.astype(np.float32) * np.float32(1 / 255)
        part[:] = cv2.blendLinear(picture, np.ascontiguousarray(part), opacity, 1 - opacity)


class MovingScene:
    """Layers in front of one another over a frame of a given size.

    Args:
        size: width, height of the frame.
        layers: From back to front; the first is the background.
    """

    def __init__(self, size: tuple[int, int], layers: Sequence[Layer]) -> None:
        self.size = size
        self.layers = tuple(layers)

    def render(self, time: float) -> np.ndarray:
        """The sharp picture at ``time``: uint8 (h, w, 3)."""
        width, height = self.size
        frame = np.empty((height, width, 3), np.uint8)
        for layer in self.layers:
            layer.draw(frame, time)
        return frame

    def longest_step(self, times: np.ndarray) -> float:
        """The largest motion in the scene between two successive moments, in frame pixels."""
        longest = 0.0
        for layer in self.layers:
            matrices = layer.frame_to_image(times)
            if layer.mask is None:
                points = _apply(matrices[len(times) // 2], _corners(*self.size))
            else:
                points = _corners(layer.image.shape[1], layer.image.shape[0])
            track = np.stack([_apply(cv2.invertAffineTransform(matrix), points) for matrix in matrices])
            longest = max(longest, float(np.linalg.norm(np.diff(track, axis=0), axis=2).max(initial=0)))
        return longest


def least_picture_size(size: tuple[int, int]) -> tuple[int, int]:
    """Least (width, height) of a background for frames of ``size``: a tenth more, as room for the camera's motion."""
    return math.ceil(1.1 * size[0]) + 2 * _MARGIN + 2, math.ceil(1.1 * size[1]) + 2 * _MARGIN + 2


def random_scene(
    background: np.ndarray,
    cut_outs: Sequence[np.ndarray],
    size: tuple[int, int],
    frames: int,
    rng: np.random.Generator,
    softness: float = 0.0,
    defocus: float = 0.0,
    still_camera: bool = False,
) -> MovingScene:
    """A scene with a hand-held camera over ``background`` and a piece of each of ``cut_outs`` moving in front.

    Speeds are drawn separately for the camera and each cut-out, in proportion to the frame's width. So blur differs
    within a frame, between frames and between clips: from almost none to a twentieth of the width in an exposure.

    Args:
        background: uint8 (h, w, 3), :func:`least_picture_size` or larger.
        cut_outs: uint8 pictures, one for each foreground object.
        size: (width, height) of the frame.
        frames: Number of frames; the scene is valid from half a frame before the first to half a frame after the last.
        rng: The generator of all draws.
        softness: Largest blur of the camera itself, without motion: a standard deviation in frame pixels, drawn from 0
            to this for the scene. A photograph made smaller is sharper than any video.
        defocus: Largest radius of out-of-focus blur: the disk, in frame pixels, that a point becomes. It is drawn from
            0 to this for about one layer in three; the others are in focus. Trained only on sharp ground truth, a
            network removes such blur too, although the real scene shows it.
        still_camera: The camera rests. Without softness and defocus, the background has exactly the photograph's
            pixels.

    Raises:
        ValueError: The background is too small.
    """
    times = np.linspace(-0.5, frames - 0.5, 8 * frames + 1)
    layers = [
        _resting(still_picture(background, size, rng)) if still_camera else _background(background, size, times, rng)
    ]
    layers += [_cut_out(picture, size, times, rng) for picture in cut_outs]
    if defocus > 0:
        radii = rng.uniform(0, defocus, len(layers)) * (rng.uniform(size=len(layers)) < _OUT_OF_FOCUS_CHANCE)
        layers = [defocused(layer, float(radius) * SUPERSAMPLING) for layer, radius in zip(layers, radii, strict=True)]
    if softness > 0:
        blur = float(rng.uniform(0, softness)) * SUPERSAMPLING
        layers = [replace(layer, image=_softened(layer.image, blur)) for layer in layers]
    return MovingScene(size, layers)


def still_picture(photo: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A part of the photograph, made smaller by a random factor and otherwise unchanged.

    The factor lies between 1 and the one at which the photograph just fills the frame; it is uniform in its logarithm.

    Args:
        photo: uint8 (h, w, 3), at least as large as the frame.
        size: (width, height) of the frame.
        rng: The generator of all draws.

    Returns:
        uint8 (h, w, 3) of that size.

    Raises:
        ValueError: The photograph is too small.
    """
    width, height = size
    most = min(photo.shape[1] / width, photo.shape[0] / height)
    if most < 1:
        raise ValueError(f'a picture of {photo.shape[1]}x{photo.shape[0]} is too small for frames of {width}x{height}')
    small = _shrunk(photo, float(np.exp(rng.uniform(0, np.log(most)))))
    places = np.floor(rng.uniform(size=(3, 2)) * (small.shape[0] - height + 1, small.shape[1] - width + 1)).astype(int)
    return np.ascontiguousarray(
        _most_detailed([small[top : top + height, left : left + width] for top, left in places])
    )


def softened(picture: np.ndarray, rng: np.random.Generator, softness: float, defocus: float) -> np.ndarray:
    """A still picture as soft as the scenes of :func:`random_scene`: by the camera itself, and at times out of focus.

    Args:
        picture: uint8 (h, w, 3).
        rng: The generator of all draws.
        softness: Largest standard deviation of the camera's own blur, in pixels, drawn from 0 to this.
        defocus: Largest radius out of focus, in pixels, drawn from 0 to this for about one picture in three.

    Returns:
        uint8 (h, w, 3).
    """
    radius = float(rng.uniform(0, defocus)) * (rng.uniform() < _OUT_OF_FOCUS_CHANCE)
    layer = defocused(Layer(picture, (0.0, 0.0), MotionPath.steady([0, 0, 0, 0])), radius)
    return _softened(layer.image, float(rng.uniform(0, softness)))


def _resting(picture: np.ndarray) -> Layer:
    """A background of the frame's size that never moves."""
    image = _supersampled(picture)
    anchor = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    middle = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    return Layer(image, anchor, MotionPath.steady([*middle, 0, 0]))


def _speed(size: tuple[int, int], rng: np.random.Generator) -> float:
    """Speed in pixels per frame interval: log-normal around a sixtieth of the width."""
    return size[0] * float(np.clip(np.exp(rng.normal(np.log(0.016), 0.7)), 0.001, 0.05))


def _shake(speed: float, reach: float, steepness: float, times: np.ndarray, rng: np.random.Generator) -> MotionPath:
    """Oscillations whose amplitude falls with frequency ** steepness; ``speed`` is the root mean square over ``times``.

    Rotation and zoom move the edge of a view, ``reach`` pixels from its centre, at about a third of ``speed``.
    """
    phases = rng.uniform(0, 2 * np.pi, (4, len(_FREQUENCIES)))
    amplitudes = _FREQUENCIES**-steepness * rng.uniform(0.3, 1, (4, len(_FREQUENCIES)))
    direction = rng.uniform(0, 2 * np.pi)
    sideways = rng.uniform(0.2, 0.8)  # a pan moves less across its direction than along it
    amplitudes[0] *= max(abs(np.cos(direction)), sideways)
    amplitudes[1] *= max(abs(np.sin(direction)), sideways)
    rhythm = (float(rng.uniform(0.5, 0.95)), float(rng.uniform(0.04, 0.1)), float(rng.uniform(0, 2 * np.pi)))
    path = MotionPath(np.zeros(4), np.zeros(4), amplitudes, phases, _FREQUENCIES, rhythm)
    velocity = np.diff(path(times), axis=0) / np.diff(times)[:, None]
    rms = np.sqrt((velocity**2).mean(axis=0))
    turn, zoom = np.minimum(
        rng.uniform(0.1, 0.5, 2) * speed / reach / rms[2:],
        (_MOST_TURN, _MOST_ZOOM) / np.ptp(path(times)[:, 2:], axis=0),
    )
    factors = np.array([speed / np.hypot(rms[0], rms[1])] * 2 + [turn, zoom])
    return replace(path, amplitudes=amplitudes * factors[:, None])


def _background(photo: np.ndarray, size: tuple[int, int], times: np.ndarray, rng: np.random.Generator) -> Layer:
    frame = np.array(size)
    photo_size = np.array([photo.shape[1], photo.shape[0]])
    if (photo_size < least_picture_size(size)).any():
        raise ValueError(f'a picture of {photo_size[0]}x{photo_size[1]} is too small for frames of {size[0]}x{size[1]}')
    most = max(1.0, float((photo_size / (1.3 * frame + 2 * _MARGIN + 2)).min()))
    least = min(most, max(1.0, float((photo_size / (3 * frame)).min())))
    shrink = float(np.exp(rng.uniform(np.log(least), np.log(most))))
    available = photo_size / shrink - 2 * _MARGIN

    speed, steepness, seed = _speed(size, rng), float(rng.uniform(1.3, 2)), int(rng.integers(2**31))
    reduction = 1.0
    while True:
        path = _shake(speed, float(np.hypot(*frame)) / 2, steepness, times, np.random.default_rng(seed))
        # Never below 1: the picture is only ever enlarged from its own pixels, so nothing can alias.
        log_zoom = path(times)[:, 3]
        rest = np.array([*(frame - 1) / 2, 0, -log_zoom.min() * reduction])
        path = replace(path, rest=rest, amplitudes=path.amplitudes * reduction)
        view = Layer(photo, (0.0, 0.0), path, density=1.0)
        corners = np.concatenate([_apply(matrix, _corners(*size)) for matrix in view.frame_to_image(times)])
        low, high = corners.min(axis=0), corners.max(axis=0)
        if (high - low <= available - 1).all():
            break
        # First make the shake faster and smaller: the blur stays, with less motion. Then scale all motion down.
        steepness, reduction = (steepness - 0.2, reduction) if steepness > 0.6 else (steepness, reduction * 0.85)

    slack = available - 1 - (high - low)
    extent = np.ceil(high - low).astype(int) + 2 * _MARGIN + 1
    small = _shrunk(photo, shrink)
    places = np.floor(rng.uniform(0, 1, (3, 2)) * slack).astype(int)
    image = _supersampled(_most_detailed([small[y : y + extent[1], x : x + extent[0]] for x, y in places]))
    anchor = SUPERSAMPLING * (_MARGIN - low + 0.5) - 0.5
    return Layer(image, (float(anchor[0]), float(anchor[1])), path)


def _cut_out(photo: np.ndarray, size: tuple[int, int], times: np.ndarray, rng: np.random.Generator) -> Layer:
    photo_size = np.array([photo.shape[1], photo.shape[0]])
    radii = np.minimum(rng.uniform(0.14, 0.32, 2) * size[1], photo_size / 2 - _MARGIN - 1)
    extent = np.ceil(2 * radii + 2 * _MARGIN).astype(int)
    shrink = float(rng.uniform(1, np.clip((photo_size / (1.5 * extent)).min(), 1, 4)))
    small = _shrunk(photo, shrink)

    pieces = []
    for _ in range(4):
        left, top = (int(rng.integers(0, small.shape[1 - axis] - extent[axis] + 1)) for axis in range(2))
        pieces.append(small[top : top + extent[1], left : left + extent[0]])

    middle = rng.uniform(0.15, 0.85, 2) * size
    speed, direction = _speed(size, rng), rng.uniform(0, 2 * np.pi)
    drift = np.array([speed * np.cos(direction), speed * np.sin(direction), 0, 0])
    path = _shake(float(rng.uniform(0.2, 0.8)) * speed, float(radii.max()), 1.6, times, rng)
    rest = np.array([*middle, float(rng.uniform(-0.4, 0.4)), 0]) - drift * times.mean()
    path = replace(path, rest=rest - path(times).mean(axis=0) * [1, 1, 0, 1], drift=drift)
    image = _supersampled(_most_detailed(pieces))
    anchor = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return Layer(image, anchor, path, mask=_outline(radii * SUPERSAMPLING, (image.shape[1], image.shape[0]), rng))


def _outline(radii: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A rounded random shape, 255 inside and 0 outside; its edge is about 1.5 frame pixels wide."""
    x = (np.arange(size[0]) - (size[0] - 1) / 2) / radii[0]
    y = ((np.arange(size[1]) - (size[1] - 1) / 2) / radii[1])[:, None]
    power = rng.uniform(2, 5)  # 2 is an ellipse, more is nearer to a rectangle
    distance = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
    around = np.arctan2(y, x)
    border = np.full(around.shape, 0.86)
    for lobes in range(2, 6):
        border += rng.uniform(0, 0.05) * np.cos(lobes * around + rng.uniform(0, 2 * np.pi))
    edge = 1.5 * SUPERSAMPLING / float(radii.min())
    return np.rint(255 * np.clip((np.minimum(border, 1) - distance) / edge + 0.5, 0, 1)).astype(np.uint8)


def _most_detailed(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The picture with the most detail: plain sky or a plain wall looks the same blurred and sharp."""
    return max(pictures, key=lambda picture: float(cv2.Laplacian(picture, cv2.CV_32F).std()))


def _shrunk(photo: np.ndarray, factor: float) -> np.ndarray:
    """The photograph made smaller by ``factor`` >= 1, with antialiasing."""
    size = [round(length / factor) for length in photo.shape[:2]]
    if size == list(photo.shape[:2]):
        return photo
    planes = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float()
    planes = functional.interpolate(planes, size=size, mode='bicubic', antialias=True)
    return planes.round_().clamp_(0, 255).byte()[0].permute(1, 2, 0).contiguous().numpy()


def _softened(image: np.ndarray, blur: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), blur, borderType=cv2.BORDER_REPLICATE) if blur > 0 else image


def defocused(layer: Layer, radius: float) -> Layer:
    """The layer out of focus: each point becomes a disk of ``radius`` image pixels. The mask is blurred too."""
    if radius < 0.5:
        return layer
    reach = math.ceil(radius)
    across = np.arange(-reach, reach + 1)
    disk = np.clip(radius + 0.5 - np.hypot(across, across[:, None]), 0, 1).astype(np.float32)
    disk /= disk.sum()
    if layer.mask is None:
        return replace(layer, image=cv2.filter2D(layer.image, -1, disk, borderType=cv2.BORDER_REPLICATE))
    image = cv2.copyMakeBorder(layer.image, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    mask = cv2.copyMakeBorder(layer.mask, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    return replace(
        layer,
        image=cv2.filter2D(image, -1, disk, borderType=cv2.BORDER_REPLICATE),
        mask=cv2.filter2D(mask, -1, disk, borderType=cv2.BORDER_CONSTANT),
        anchor=(layer.anchor[0] + reach, layer.anchor[1] + reach),
    )


def _supersampled(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=SUPERSAMPLING, fy=SUPERSAMPLING, interpolation=cv2.INTER_LANCZOS4)


def _corners(width: int, height: int) -> np.ndarray:
    return np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], np.float64)


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]
