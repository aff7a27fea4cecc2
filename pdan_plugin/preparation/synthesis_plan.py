"""What a synthesis is to make: which source frames become ground truth, in which runs, in which shard.

The plan follows from settings and the clips' names and lengths alone, so that every machine that makes a shard, and
every continuation after a kill, comes to the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pdan_plugin.data.frame_codec import CODECS
from pdan_plugin.data.reds_layout import CLIPS, SCALE
from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.preparation.source_clips import SourceClip
from pdan_plugin.synthesis.motion_blur import SubframeWindow
from pdan_plugin.synthesis.scene_cuts import CUT_THRESHOLD

LEAST_SIDE = 32  # pixels; interpolation and the 4x smaller frame need something to work on

# A run is so much longer than a window that what neighbouring runs both have to make is little, and so short that a
# film of a minute keeps many processes busy.
_WINDOWS_OF_SOURCE = 8


@dataclass(frozen=True)
class Settings:
    """How the frames are made.

    Attributes:
        interpolator: Name in `synthesis.frame_interpolation`.
        weights: Its weights, where it needs a file.
        device: Where it computes.
        window: The sub-frames averaged.
        stride: Source frames between two windows of one phase; 5 makes 24 fps of 120.
        phases: Windows begin at the source frames 0 to ``phases - 1`` of every stride.
        response: Of the camera: a name or a file (`synthesis.camera_response`).
        cut_threshold: Of `synthesis.scene_cuts`; None looks for no cuts.
        codec: Of the stores.
        split: Names the stores.

    Raises:
        RequestError: A value out of its bounds.
    """

    interpolator: str = 'flow'
    weights: Path | None = None
    device: str = 'cpu'
    window: SubframeWindow = field(default_factory=SubframeWindow)
    stride: int = 5
    phases: int = 1
    response: str = 'srgb'
    cut_threshold: float | None = CUT_THRESHOLD
    codec: str = 'bmp'
    split: str = 'train'

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise RequestError(f'stride must be at least 1, got {self.stride}')
        if not 1 <= self.phases <= self.stride:
            raise RequestError(
                f'phases must lie between 1 and the stride ({self.stride}), got {self.phases}: a further one '
                'would repeat the first'
            )
        if self.cut_threshold is not None and not 0 < self.cut_threshold < 1:
            raise RequestError(f'cut threshold must lie between 0 and 1, got {self.cut_threshold}')
        if self.codec not in CODECS:
            raise RequestError(f'codec must be one of {", ".join(CODECS)}, got {self.codec!r}')
        if self.split not in CLIPS:
            raise RequestError(f'split must be one of {", ".join(CLIPS)}, got {self.split!r}')


@dataclass(frozen=True)
class Run:
    """Consecutive windows of one clip: what one process makes at a time.

    Attributes:
        number: Among all runs of the plan.
        clip: Where they come from.
        centres: Positions of the ground truth frames, ascending.
    """

    number: int
    clip: SourceClip
    centres: tuple[int, ...]

    def key(self, centre: int) -> str:
        """``CLIP/FRAME``, FRAME being the number of the ground truth in its source: the same in every plan."""
        return frame_key(self.clip, centre)

    @property
    def keys(self) -> list[str]:
        return [self.key(centre) for centre in self.centres]


def frame_key(clip: SourceClip, position: int) -> str:
    return f'{clip.name}/{frame_number(clip, position)}'


def frame_number(clip: SourceClip, position: int) -> str:
    return f'{clip.first + position:08d}'


def sharp_shape(clip: SourceClip) -> tuple[int, int, int]:
    """Of a clip's ground truth: cut at the right and the bottom to multiples of 4."""
    return clip.size[0] // SCALE * SCALE, clip.size[1] // SCALE * SCALE, 3


def window_centres(frames: int, settings: Settings) -> list[int]:
    """Positions of the frames that windows of a clip are centred on, ascending."""
    reach = settings.window.reach
    return [
        centre
        for start in range(reach, frames, settings.stride)
        for centre in range(start, start + settings.phases)
        if centre + reach < frames
    ]


def frames_left_over(frames: int, settings: Settings) -> int:
    """Frames at a clip's end that begin another window without being enough for it."""
    centres = window_centres(frames, settings)
    if not centres:
        return frames
    next_begins = ((frames - settings.window.frames) // settings.stride + 1) * settings.stride
    return max(0, frames - max(next_begins, centres[-1] + settings.window.reach + 1))


def usable_clips(clips: Sequence[SourceClip], settings: Settings, skip_short: bool) -> list[SourceClip]:
    """The clips that hold a window.

    Raises:
        RequestError: Frames of a clip are too small; every clip is too short; or some are, without ``skip_short``.
    """
    small = [clip for clip in clips if min(clip.size) < LEAST_SIDE]
    if small:
        told = some_of(f'{clip.place} ({clip.size[1]}x{clip.size[0]})' for clip in small)
        raise RequestError(f'frames of at least {LEAST_SIDE}x{LEAST_SIDE} are needed: {told}')
    needed = settings.window.frames
    long = [clip for clip in clips if clip.frames >= needed]
    short = [clip for clip in clips if clip.frames < needed]
    if short and (not long or not skip_short):
        told = some_of(f'{clip.place} has {clip.frames}' for clip in short)
        way_out = 'take them away or add --skip-short' if long else 'choose a smaller --window'
        raise RequestError(
            f'a window of {settings.window.length} sub-frames at x{settings.window.factor} needs {needed} source '
            f'frames, but {told}; {way_out}'
        )
    return long


def plan_runs(clips: Sequence[SourceClip], settings: Settings) -> list[Run]:
    """All windows of the clips, in runs that begin with a first phase."""
    steps = max(1, math.ceil(_WINDOWS_OF_SOURCE * (settings.window.frames - 1) / settings.stride))
    runs: list[Run] = []
    for clip in clips:
        by_step: dict[int, list[int]] = {}
        for centre in window_centres(clip.frames, settings):
            by_step.setdefault((centre - settings.window.reach) // settings.stride // steps, []).append(centre)
        for centres in by_step.values():
            runs.append(Run(len(runs), clip, tuple(centres)))
    return runs


def shard_of(runs: Sequence[Run], shard: tuple[int, int] | None) -> list[Run]:
    """Every N-th run, from the K-th on; all without a shard.

    Raises:
        RequestError: K is not between 1 and N, or there are fewer runs than shards.
    """
    if shard is None:
        return list(runs)
    number, count = shard
    if not 1 <= number <= count:
        raise RequestError(f'--shard {number}/{count}: the first number must lie between 1 and the second')
    if count > len(runs):
        raise RequestError(
            f'--shard {number}/{count}: the source makes only {len(runs)} runs of windows; take fewer shards'
        )
    return list(runs[number - 1 :: count])
