"""Checks the wanted results of a plan against its files, before a network runs and anything is written."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import PictureFileError, read_upright_size
from pdan_plugin.media.picture_writing import require_writer
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.video_source import SourceVideo, VideoHeader
from pdan_plugin.restoration.jobs import Job, Plan
from pdan_plugin.restoration.restorer import Restorer


def check_results(plan: Plan, results: ResultSettings) -> None:
    """Checks that each setting has a file that it concerns, and that the results can have the wanted size and format.

    Raises:
        RequestError: They cannot. The message names the setting and, if it is at fault, the file.
    """
    results.check()
    pictures = [job for job in plan.jobs if job.kind == 'picture']
    videos = [job for job in plan.jobs if job.kind == 'video']
    for words, jobs, kind in ((results.of_pictures(), pictures, 'picture'), (results.of_videos(), videos, 'video')):
        if words and not jobs:
            raise RequestError(f'{words[0]}: has an effect on {kind}s alone, and the input holds no {kind}.')
    if plan.folder is None and results.suffix:
        raise RequestError(
            f'--suffix {results.suffix}: the output is a file, {plan.jobs[0].target}; write the suffix there, or give '
            'a folder.'
        )
    for ending in sorted({job.target.suffix for job in pictures}):
        results.picture.check(ending)
        require_writer(ending)
    for is_deep in sorted({video.bits > 8 for job in videos if (video := _video(job)) is not None}):
        results.video.encoder(is_deep=is_deep)
    if results.size is not None:
        for job in plan.jobs:
            if job.kind == 'video':
                results.size.refuse_odd(job.source)
            if (size := upright_size(job)) is not None:
                results.size.refuse_smaller(job.source, *size)


def refuse_too_little_memory(jobs: Iterable[Job], restorer: Restorer) -> None:
    """Rejects jobs if the memory does not suffice for even the smallest picture or video.

    A file that is too large or cannot be read is reported when its job runs.

    Raises:
        RequestError: The memory does not suffice.
    """
    sizes = [job.header.size for job in jobs if job.header is not None and job.header.size is not None]
    if sizes:
        restorer.check_memory(*min(sizes, key=math.prod))


def upright_size(job: Job) -> tuple[int, int] | None:
    """(height, width) of a source as it is shown; None if it cannot be read."""
    if job.header is None:
        return None
    if isinstance(job.header, VideoHeader):
        return job.header.size
    with contextlib.suppress(OSError, PictureFileError):
        return read_upright_size(job.source)
    return None


def size_of_result(
    results: ResultSettings, size: tuple[int, int], scale: int, *, is_video: bool = False
) -> tuple[int, int]:
    """(height, width) of the result of an upright source of ``size``, by a network of ``scale``."""
    if results.size is None:
        return size[0] * scale, size[1] * scale
    return results.size.of(*size, even=is_video)


def _video(job: Job) -> SourceVideo | None:
    return job.header.video if isinstance(job.header, VideoHeader) else None
