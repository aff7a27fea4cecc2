"""Writes the zip file for the NTIRE challenges on REDS: ten frames of each clip, in one folder, and a readme.txt.

The pictures are called ``CCC_FFFFFFFF.png`` (clip and frame), for the frames 9, 19, ..., 99 of each clip.
"""

from __future__ import annotations

import math
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError, failing_unwritable, some_of
from pdan_plugin.files.whole_files import opened_whole
from pdan_plugin.models.listed_frames import listed_frames
from pdan_plugin.models.result_names import clip_and_frame
from pdan_plugin.models.scores_record import ScoredImage

_FRAMES = tuple(f'{number:08d}' for number in range(9, 100, 10))
_CLIP, _FRAME = re.compile(r'\d{3}'), re.compile(r'\d{8}')
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date in a zip; a fixed date gives the same bytes for the same pictures


def require_challenge_frames(dataset: Any, *, save_img: bool = True) -> None:
    """Rejects a data set if its results cannot be submitted. Reads only its list of frames.

    Args:
        dataset: A built data set with its options in ``opt``.
        save_img: ``val.save_img``.

    Raises:
        RequestError: The pictures are not saved, the names are not CLIP/FRAME, or a clip lacks a frame.
    """
    label = f'val.submission: data set {dataset.opt["name"]!r}'
    if not save_img:
        raise RequestError(f'{label}: the zip needs the pictures, which are not saved; set val.save_img: true')
    listed = listed_frames(dataset)
    if listed is None:
        raise RequestError(
            f'{label}: {type(dataset).__name__} does not list its frames, so missing ones cannot be found before the '
            'test; use REDSPairedDataset, or set val.submission: false'
        )
    clips: dict[str, set[str]] = {}
    for path, root in listed:
        clip, frame = clip_and_frame(path, [root])
        if not _CLIP.fullmatch(clip) or not _FRAME.fullmatch(frame):
            raise RequestError(
                f'{label}: {path} is not a frame of a REDS clip; expected three digits and eight, as in 000/00000009. '
                'Give frames of REDS, or set val.submission: false'
            )
        clips.setdefault(clip, set()).add(frame)
    for clip, frames in clips.items():
        missing = [frame for frame in _FRAMES if frame not in frames]
        if missing:
            raise RequestError(
                f'{label}: clip {clip} lacks frame {some_of(missing, 1)}; '
                'the challenge takes frames 9, 19, ..., 99 of each clip. Give whole clips, or set val.submission: false'
            )


def write_submission(
    path: Path, images: Sequence[ScoredImage], pictures: Sequence[Path], *, on_gpu: bool, description: str
) -> None:
    """Writes the zip, whole or not at all. The same pictures and seconds give the same bytes.

    Args:
        images: Images of a data set that `require_challenge_frames` accepted, with their seconds.
        pictures: The PNG file of each image.
        on_gpu: Whether the seconds were measured on a GPU.
        description: Text for readme.txt; line breaks become spaces.

    Raises:
        WorkError: A picture is missing, or the zip cannot be written.
    """
    chosen = sorted(
        (f'{image.clip}_{image.frame}.png', picture)
        for image, picture in zip(images, pictures, strict=True)
        if image.frame in _FRAMES
    )
    seconds = [image.seconds for image in images if image.seconds is not None]
    readme = (
        f'runtime per image [s] : {math.fsum(seconds) / len(seconds):.4f}\n'
        f'CPU[1] / GPU[0] : {0 if on_gpu else 1}\n'
        'Extra Data [1] / No Extra Data [0] : 0\n'
        f'Other description : {" ".join(description.split())}\n'
    )
    # PNG files hardly shrink further
    with failing_unwritable(path), opened_whole(path) as zipped, zipfile.ZipFile(zipped, 'w') as archive:
        for name, picture in chosen:
            with picture.open('rb') as file, archive.open(_entry(name), 'w') as into:
                shutil.copyfileobj(file, into)
        archive.writestr(_entry('readme.txt'), readme)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.create_system = 3  # else it is the writing machine's
    entry.external_attr = 0o644 << 16
    return entry
