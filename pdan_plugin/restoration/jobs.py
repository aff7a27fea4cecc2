"""The plan of `basicsr restore`: the files to restore, and the path of each result."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pdan_plugin.errors import RequestError
from pdan_plugin.files.folder_walk import files_below
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.media.picture_files import (
    Picture,
    PictureFileError,
    PictureHeader,
    is_picture_file,
    read_picture_header,
)
from pdan_plugin.media.picture_format import DEFAULT_ENDING
from pdan_plugin.media.picture_writing import WRITTEN_SUFFIXES
from pdan_plugin.media.pyav import import_av
from pdan_plugin.media.video_containers import WRITTEN_VIDEO_SUFFIXES, sound_for_other_suffix
from pdan_plugin.media.video_contents import is_video_file
from pdan_plugin.media.video_source import VIDEO_SUFFIXES, VideoFileError, VideoHeader, read_video_header

_LONGEST_NAME = 255  # bytes; the limit of most file systems


@dataclass(frozen=True)
class Job:
    """A file to restore.

    Attributes:
        source: The file.
        target: The file of the result.
        kind: By the content of the source.
        header: The source's header, read once; None if it cannot be read (the job reports the reason when it runs).
        picture: The decoded source, if it was needed before the job runs.
    """

    source: Path
    target: Path
    kind: Literal['picture', 'video']
    header: PictureHeader | VideoHeader | None = None
    picture: Picture | None = None


@dataclass
class Plan:
    """The work of one call.

    Attributes:
        jobs: Sorted by name.
        folder: The folder of the results; None if the output is a file.
        left_alone: Ending -> number of input files that are not pictures or videos, or whose result's name is taken.
        links: Links to folders in the input, which are not followed.
    """

    jobs: list[Job]
    folder: Path | None
    left_alone: Counter[str] = field(default_factory=Counter)
    links: list[Path] = field(default_factory=list)


def make_plan(source: Path, output: Path, ending: str = DEFAULT_ENDING, suffix: str = '') -> Plan:
    """Finds the files to restore and the path of each result. Hidden files are ignored.

    Args:
        ending: Of pictures in a folder of results.
        suffix: Added to the names in a folder of results, before the ending.

    Raises:
        RequestError: There is no such input or nothing to restore in it, or a result would overwrite another result or
            a source.
    """
    if source.is_file():
        plan = _plan_file(source, output, ending, suffix)
    elif source.is_dir():
        plan = _plan_folder(source, output, ending, suffix)
    else:
        found = 'is a pipe, a socket or a device; only files and folders are restored'
        raise RequestError(f'{source}: {found if source.exists() else "no such picture, video or folder"}.')
    wanted = plan.jobs[0].target.parent if plan.folder is None else plan.folder
    there = next(each for each in (wanted, *wanted.absolute().parents) if each.exists())
    if not there.is_dir():
        raise RequestError(f'{there} is a file, and the results need a folder there. Give another -o.')
    taken: dict[Path, Path] = {}
    for job in plan.jobs:
        if job.target.exists() and job.target.samefile(job.source):
            raise RequestError(f'{job.source} would be overwritten by its own result. Choose another place: -o OUTPUT.')
        if job.target in taken:
            raise RequestError(
                f'{job.source} and {taken[job.target]} would both be written to {job.target}. Rename one of them.'
            )
        taken[job.target] = job.source
        if job.target.is_dir():
            raise RequestError(f'{job.target} is a folder, and the result of {job.source} would be a file there.')
    return plan


def _plan_file(source: Path, output: Path, picture_ending: str, suffix: str) -> Plan:
    ending = output.suffix.lower()
    kind: Literal['picture', 'video'] = 'video' if is_video_file(source) else 'picture'
    if kind == 'video':
        import_av()
    written = WRITTEN_VIDEO_SUFFIXES if kind == 'video' else WRITTEN_SUFFIXES
    if output.is_dir() or not ending:
        return Plan([_job_in_folder(source, output / source.name, kind, picture_ending, suffix)], output)
    if ending not in written:
        raise RequestError(
            f'{output}: a {kind} cannot be written with this ending; expected {", ".join(written)}. '
            'If it should be a folder, create it first.'
        )
    job = Job(source, output, kind, _header(source, kind))
    if isinstance(job.header, VideoHeader):
        _refuse_lost_sound(job, job.header)
    return Plan([job], None)


def _job_in_folder(source: Path, place: Path, kind: Literal['picture', 'video'], ending: str, suffix: str) -> Job:
    """A job whose result is ``place`` with the suffix and ``ending``, or the video's ending."""
    header = _header(source, kind)
    if kind == 'video':  # a video that cannot be opened gets .mp4; the job reports the failure when it runs
        ending = header.suffix if isinstance(header, VideoHeader) else '.mp4'
    target = place.with_name(f'{place.stem}{suffix}{ending}')
    if suffix and len(os.fsencode(target.name)) > _LONGEST_NAME:
        raise RequestError(f'--suffix {suffix}: the name of the result of {source} would be too long.')
    return Job(source, target, kind, header)


def _header(source: Path, kind: Literal['picture', 'video']) -> PictureHeader | VideoHeader | None:
    with contextlib.suppress(OSError, PictureFileError, VideoFileError):
        return read_picture_header(source) if kind == 'picture' else read_video_header(source)
    return None


def _refuse_lost_sound(job: Job, header: VideoHeader) -> None:
    ending = job.target.suffix.lower()
    refused = sound_for_other_suffix(header.refused, ending)
    if refused and header.suffix != ending:
        raise RequestError(
            f'{job.target}: the sound of {job.source} ({refused[0].codec}) cannot be copied into '
            f'{job.target.suffix}. Give an output that ends in {header.suffix}.'
        )


def _plan_folder(source: Path, output: Path, ending: str, suffix: str) -> Plan:
    if output.is_dir() and output.samefile(source):
        raise RequestError(
            f'{output} is also the input: its pictures would be overwritten, or results restored again later. Choose '
            'another place: -o OUTPUT.'
        )
    plan = Plan([], output)
    jobs: list[Job] = []
    for path in files_below(source, without=output, links=plan.links):
        found = path.suffix.lower()
        place = output / path.relative_to(source)
        if is_video_file(path):
            import_av()
            jobs.append(_job_in_folder(path, place, 'video', ending, suffix))
        elif found in VIDEO_SUFFIXES or is_picture_file(path):
            jobs.append(_job_in_folder(path, place, 'picture', ending, suffix))
        else:
            plan.left_alone[found or 'no ending'] += 1
    taken = {job.target for job in jobs if _has_usual_ending(job)}
    for job in jobs:
        if not _has_usual_ending(job) and job.target in taken:  # such as the PSD of which a JPEG was made
            plan.left_alone[f'{job.source.suffix.lower()} beside a picture of the same name'] += 1
        else:
            taken.add(job.target)
            plan.jobs.append(job)
    if not plan.jobs:
        raise RequestError(
            f'{source}: no pictures in it ({", ".join(PICTURE_SUFFIXES)}) and no videos ({", ".join(VIDEO_SUFFIXES)}).'
        )
    return plan


def _has_usual_ending(job: Job) -> bool:
    return job.kind == 'video' or job.source.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)
