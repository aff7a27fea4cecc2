"""Restores one file of a plan."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.video import VideoOutcome, restore_video
from pdan_plugin.media.video_source import VideoHeader
from pdan_plugin.restoration.jobs import Job
from pdan_plugin.restoration.picture_jobs import PictureJobs, decoded_for_its_ending
from pdan_plugin.restoration.restorer import OnTile, Restorer
from pdan_plugin.restoration.result_checks import refuse_too_little_memory


@dataclass(frozen=True)
class Outcome:
    """The outcome for one file.

    Attributes:
        notes: What the result does not hold, and what was converted.
        problems: Parts of a video that could not be read, and what the result has instead.
    """

    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def restore_job(restorer: Restorer, job: Job, on_progress: OnTile | None = None) -> Outcome:
    """Restores a picture or a video as `basicsr restore` does with its default settings.

    Args:
        on_progress: Called with (tiles done, tiles in total), for a video with (frames done, frames in total or 0 if
            unknown). An exception that it raises ends the work, and no result is left.

    Raises:
        RequestError: The memory does not suffice, or the target's format cannot hold the result; nothing is written.
        PictureFileError, VideoFileError: The file cannot be restored.
        OSError: The source cannot be read, or the result cannot be written.
    """
    refuse_too_little_memory([job], restorer)
    results = ResultSettings()
    if job.kind == 'video':
        outcome = restore_video_job(restorer, job, results, on_progress)
        return Outcome(tuple(outcome.notes), tuple(outcome.problems))
    notes: list[str] = []
    pictures = PictureJobs(restorer, results, on_note=lambda _, note: notes.append(note))
    if on_progress is not None:
        pictures.on_tile = lambda _, done, total: on_progress(done, total)
    with contextlib.closing(pictures.run([decoded_for_its_ending(job, results, restorer.scale)])) as run:
        for _, error in run:
            if error is not None:
                raise error
    return Outcome(tuple(notes))


def restore_video_job(
    restorer: PictureRestorer,
    job: Job,
    results: ResultSettings,
    on_frame: OnTile | None = None,
    on_tile: OnTile | None = None,
    most_bytes: int | None = None,
) -> VideoOutcome:
    """:func:`~pdan_plugin.media.video.restore_video` with the settings of results, into a folder that may be new."""
    job.target.parent.mkdir(parents=True, exist_ok=True)
    return restore_video(
        restorer,
        job.source,
        job.target,
        on_frame,
        on_tile,
        header=job.header if isinstance(job.header, VideoHeader) else None,
        size=results.size,
        coding=results.video,
        frames=results.frames,
        most_bytes=most_bytes,
    )
