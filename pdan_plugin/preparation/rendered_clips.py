"""Rendered clips in REDS's layout: the work behind `basicsr render-clips`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pdan_plugin.data import reds_layout
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.preparation.disk_room import free_room
from pdan_plugin.synthesis import clip_rendering, photographs
from pdan_plugin.synthesis.scene_conditions import NO_SHARES, Shares

SKIMAGE = 'skimage'  # in place of a folder: the photographs that scikit-image ships


@dataclass(frozen=True)
class ClipPlan:
    """The clips to render.

    Attributes:
        clips: The number of clips of each split, `train` and `val`.
        frames: The number of frames in a clip of each split.
        size: (width, height) of a sharp frame, multiples of 4.
        seed: The seed of all draws.
        softness: The largest standard deviation of the camera's own blur, in pixels.
        defocus: The largest radius out of focus, in pixels.
        shares: The shares of special clips.
    """

    clips: Mapping[str, int]
    frames: Mapping[str, int]
    size: tuple[int, int]
    seed: int = 0
    softness: float = 0.0
    defocus: float = 0.0
    shares: Shares = NO_SHARES


def render_missing(photos: str, target: Path, plan: ClipPlan, *, workers: int) -> None:
    """Renders the clips of the plan that are not in ``target`` yet.

    Args:
        photos: A folder of photographs, or ``skimage``. Training and validation share none.
        target: The folder of the clips, in REDS's layout.
        plan: The clips.
        workers: Number of processes; it does not change the pictures.

    Raises:
        RequestError: The request cannot be carried out; nothing has been rendered.
    """
    pictures = _photographs(photos, plan)
    drawn = {'seed': plan.seed, 'softness': plan.softness, 'defocus': plan.defocus, 'shares': plan.shares}
    clips = [
        clip
        for split, count in plan.clips.items()
        for clip in clip_rendering.plan_clips(
            split,
            pictures[split],
            [clip_folders(target, split, number) for number in range(count)],
            size=plan.size,
            frames=plan.frames[split],
            **drawn,
        )
    ]
    used = [photo for split, count in plan.clips.items() if count for photo in pictures[split]]
    photographs.check_sizes(used, plan.size)
    clip_rendering.check_record(target, pictures, size=plan.size, frames=plan.frames, **drawn)

    missing = [clip for clip in clips if not clip.is_finished()]
    needed, free = clip_rendering.space_needed(missing), free_room(target)
    print(
        f'{len(clips) - len(missing)} of {len(clips)} clips are there; the others take at most '
        f'{disk_in_words(needed)} of {disk_in_words(free)} free.'
    )
    if needed > free:
        raise RequestError(
            f'{target}: {disk_in_words(needed)} may be needed, {disk_in_words(free)} are free; '
            'free some, or ask for fewer clips or smaller frames.'
        )
    if missing:
        done = clip_rendering.render_clips(missing, min(workers, len(missing)))
        for _ in tqdm(done, total=len(missing), unit='clip', desc='rendering'):
            pass
    splits = ' '.join(split for split, count in plan.clips.items() if count)
    print(f'Next: basicsr prepare-reds {shlex.quote(str(target))} STORES --splits {splits}')


def clip_folders(target: Path, split: str, number: int) -> clip_rendering.ClipFolders:
    """A clip's folders in REDS's layout."""

    def place(kind: reds_layout.Kind) -> Path:
        return target / split / reds_layout.set_name(split, kind) / kind.inner / f'{number:03d}'

    return clip_rendering.ClipFolders(
        place(reds_layout.SHARP), place(reds_layout.BLUR_BICUBIC), place(reds_layout.SHARP_BICUBIC)
    )


def _photographs(photos: str, plan: ClipPlan) -> dict[str, list[photographs.Photograph]]:
    """The photographs of each split."""
    if photos == SKIMAGE:
        train, validation = photographs.skimage_photographs()
    else:
        found = photographs.photographs_in(Path(photos), read_as_shown)
        if plan.clips['train'] and plan.clips['val']:
            train, validation = photographs.part(found, plan.seed)
        else:
            train, validation = (found, []) if plan.clips['train'] else ([], found)
    return {'train': train, 'val': validation}
