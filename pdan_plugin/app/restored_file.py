"""Restores one file for the page, and makes the pictures that the page compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.app.limits import Upload
from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.media.video_source import first_frame
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.one_file import restore_job
from pdan_plugin.restoration.restorer import Restorer

MOST_SHOWN = 2400  # pixels of the longer side in the comparison; the file itself is whole

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RestoredFile:
    """A result.

    Attributes:
        path: The file: a PNG with all that the source's file holds, or a video.
        is_video: Which of both.
        before, after: (h, w, 3) uint8 RGB: input, enlarged by bicubic interpolation, and result, of one size; of a
            video its first frame.
        notes: Messages about conversions and losses.
    """

    path: Path
    is_video: bool
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def restore_file(restorer: Restorer, upload: Upload, folder: Path, on_progress: Progress) -> RestoredFile:
    """Restores a picture or video into a folder.

    Args:
        restorer: The network.
        upload: The source.
        folder: Receives NAME_xSCALE.png, or .mp4 or .mkv.
        on_progress: Called with (done, total) tiles or frames; an exception that it raises ends the work, and no
            result is left.

    Raises:
        RequestError, PictureFileError, VideoFileError, OSError: It cannot be restored; see `restoration`.
    """
    job = make_plan(upload.path, folder).jobs[0]
    target = job.target.with_name(f'{upload.path.stem}_x{restorer.scale}{job.target.suffix}')

    def on_frame(done: int, total: int) -> None:
        if done > upload.most_frames:
            raise RequestError(f'{upload.path.name}: the video is longer than this page takes')
        on_progress(done, max(done, total or upload.frames))

    outcome = restore_job(restorer, replace(job, target=target), on_frame if upload.is_video else on_progress)
    shown = first_frame if upload.is_video else read_as_shown
    before, after = _of_one_size(shown(upload.path), shown(target))
    notes = tuple(dict.fromkeys((*outcome.notes, *outcome.problems)))
    return RestoredFile(target, upload.is_video, before, after, notes)


def _of_one_size(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    height, width = after.shape[:2]
    shrink = min(1.0, MOST_SHOWN / max(height, width))
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    shown = (Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC) for picture in (before, after))
    first, second = (np.asarray(picture) for picture in shown)
    return first, second
