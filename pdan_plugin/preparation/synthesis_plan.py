"""Plans a synthesis: which source frames become ground truth, in which run and which shard.

The plan depends only on the settings and the clips' names and lengths. So every machine that makes a shard, and every
continuation after a kill, computes the same plan.
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

LEAST_SIDE = 32  # pixels; interpolation and the 4x smaller frame need some pixels

# Runs are long, so that neighbouring runs share little work; they are short enough that a film of a minute keeps many
# processes busy.
_WINDOWS_OF_SOURCE = 8


@dataclass(frozen=True)
class Settings:
    """How the frames are made.

    Attributes:
        interpolator: A name in `synthesis.frame_interpolation`.
        weights: The interpolator's weights file, if it needs one.
        device: The interpolator's device.
        window: The sub-frames that are averaged.
        stride: Source frames between two windows of one phase; 5 makes 24 fps from 120.
        phases: Windows begin at the source frames 0 to ``phases - 1`` of every stride.
        response: The camera response: a name or a file (`synthesis.camera_response`).
        cut_threshold: The threshold of `synthesis.scene_cuts`; None does not look for cuts.
        codec: The stores' codec.
        split: The split in the stores' names.

    Raises:
        RequestError: A value is out of range.
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
                f'phases must lie between 1 and the stride ({self.stride}), got {self.phases}: more phases '
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
    """Consecutive windows of one clip; one process makes one run at a time.

    Attributes:
        number: The run's number in the plan.
        clip: The source clip.
        centres: Positions of the ground truth frames, ascending.
    """

    number: int
    clip: SourceClip
    centres: tuple[int, ...]

    def key(self, centre: int) -> str:
        """``CLIP/FRAME``; FRAME is the ground truth's number in its source, so a key is the same in every plan."""
        return frame_key(self.clip, centre)

    @property
    def keys(self) -> list[str]:
        return [self.key(centre) for centre in self.centres]


def frame_key(clip: SourceClip, position: int) -> str:
    return f'{clip.name}/{frame_number(clip, position)}'


def frame_number(clip: SourceClip, position: int) -> str:
    return f'{clip.first + position:08d}'


def sharp_shape(clip: SourceClip) -> tuple[int, int, int]:
    """Shape of a clip's ground truth: cut at the right and the bottom to multiples of 4."""
    return clip.size[0] // SCALE * SCALE, clip.size[1] // SCALE * SCALE, 3


def window_centres(frames: int, settings: Settings) -> list[int]:
    """Positions of the centre frames of a clip's windows, ascending."""
    reach = settings.window.reach
    return [
        centre
        for start in range(reach, frames, settings.stride)
        for centre in range(start, start + settings.phases)
        if centre + reach < frames
    ]


def frames_left_over(frames: int, settings: Settings) -> int:
    """Number of frames at a clip's end that are too few for another window."""
    centres = window_centres(frames, settings)
    if not centres:
        return frames
    next_begins = ((frames - settings.window.frames) // settings.stride + 1) * settings.stride
    return max(0, frames - max(next_begins, centres[-1] + settings.window.reach + 1))


def usable_clips(clips: Sequence[SourceClip], settings: Settings, skip_short: bool) -> list[SourceClip]:
    """The clips that are long enough for a window.

    Raises:
        RequestError: Frames of a clip are too small; all clips are too short; or some are, without ``skip_short``.
    """
    small = [clip for clip in clips if min(clip.size) < LEAST_SIDE]
    if small:
        listed = some_of(f'{clip.place} ({clip.size[1]}x{clip.size[0]})' for clip in small)
        raise RequestError(f'frames of at least {LEAST_SIDE}x{LEAST_SIDE} are needed; too small: {listed}')
    needed = settings.window.frames
    long = [clip for clip in clips if clip.frames >= needed]
    short = [clip for clip in clips if clip.frames < needed]
    if short and (not long or not skip_short):
        listed = some_of(f'{clip.place} has {clip.frames}' for clip in short)
        way_out = 'remove these clips or add --skip-short' if long else 'choose a smaller --window'
        raise RequestError(
            f'a window of {settings.window.length} sub-frames at x{settings.window.factor} needs {needed} source '
            f'frames, but {listed}; {way_out}'
        )
    return long


def plan_runs(clips: Sequence[SourceClip], settings: Settings) -> list[Run]:
    """All windows of the clips, in runs; each run begins with the first phase of a stride."""
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
    """Every N-th run, from the K-th on; all runs if ``shard`` is None.

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
            f'--shard {number}/{count}: the source gives only {len(runs)} runs of windows; use fewer shards'
        )
    return list(runs[number - 1 :: count])
