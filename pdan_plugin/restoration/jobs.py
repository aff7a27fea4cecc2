"""What `basicsr restore` will do: which files there are, and where each result goes."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import (
    PICTURE_SUFFIXES,
    Picture,
    PictureFileError,
    PictureHeader,
    read_picture_header,
)
from pdan_plugin.media.picture_writing import WRITTEN_SUFFIXES
from pdan_plugin.media.pyav import import_av
from pdan_plugin.media.video_source import (
    VIDEO_SUFFIXES,
    WRITTEN_VIDEO_SUFFIXES,
    VideoFileError,
    VideoHeader,
    read_video_header,
)


@dataclass(frozen=True)
class Job:
    """A file to restore.

    Attributes:
        source: The file.
        target: Its result.
        kind: By the ending of the source.
        header: What the source says of itself, read once; None where it cannot be read, for a reason that is reported
            when the job's turn comes.
        picture: The source decoded, where that was needed before the job's turn.
    """

    source: Path
    target: Path
    kind: Literal['picture', 'video']
    header: PictureHeader | VideoHeader | None = None
    picture: Picture | None = None


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: In the order of their names.
        folder: That results go into; None where the output is a file.
        left_alone: Endings of files in the input that are neither pictures nor videos, and how many there are.
        links: Links to folders in the input, which are not followed.
    """

    jobs: list[Job]
    folder: Path | None
    left_alone: Counter[str] = field(default_factory=Counter)
    links: list[Path] = field(default_factory=list)


def make_plan(source: Path, output: Path) -> Plan:
    """Which files there are to restore, and where each result goes. Hidden files are no input.

    Raises:
        RequestError: No such input, nothing in it to restore, or results that would lie on each other or on a source.
    """
    if source.is_file():
        plan = _plan_file(source, output)
    elif source.is_dir():
        plan = _plan_folder(source, output)
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


def _plan_file(source: Path, output: Path) -> Plan:
    suffix, ending = source.suffix.lower(), output.suffix.lower()
    is_video = suffix in VIDEO_SUFFIXES
    if is_video:
        import_av()
    kind, written = ('video', WRITTEN_VIDEO_SUFFIXES) if is_video else ('picture', WRITTEN_SUFFIXES)
    if output.is_dir() or not ending:
        return Plan([_job_in_folder(source, output / source.name, kind)], output)
    if ending not in written:
        raise RequestError(
            f'{output}: not an ending of a {kind} that is written ({", ".join(written)}). '
            'If it is to be a folder, make it first.'
        )
    job = Job(source, output, kind, _header(source, kind))
    if isinstance(job.header, VideoHeader):
        _refuse_lost_sound(job, job.header)
    return Plan([job], None)


def _job_in_folder(source: Path, place: Path, kind: Literal['picture', 'video']) -> Job:
    """A job whose result takes the place's name with an ending of ours."""
    header = _header(source, kind)
    if kind == 'picture':
        ending = '.png'
    else:  # one that cannot be opened gets .mp4; its failure is reported when its turn comes
        ending = header.suffix if isinstance(header, VideoHeader) else '.mp4'
    return Job(source, place.with_suffix(ending), kind, header)


def _header(source: Path, kind: Literal['picture', 'video']) -> PictureHeader | VideoHeader | None:
    with contextlib.suppress(OSError, PictureFileError, VideoFileError):
        return read_picture_header(source) if kind == 'picture' else read_video_header(source)
    return None


def _refuse_lost_sound(job: Job, header: VideoHeader) -> None:
    ending = job.target.suffix.lower()
    refused = [stream for stream in header.refused[ending] if stream.type == 'audio']
    if refused:
        raise RequestError(
            f'{job.target}: the sound of {job.source} ({refused[0].codec}) cannot be copied into '
            f'{job.target.suffix}. Give an output that ends in {_other(ending)}.'
        )


def _other(suffix: str) -> str:
    return next(each for each in WRITTEN_VIDEO_SUFFIXES if each != suffix)


def _plan_folder(source: Path, output: Path) -> Plan:
    if output.is_dir() and output.samefile(source):
        raise RequestError(
            f'{output} is the input itself: pictures would be overwritten, or results taken for pictures later. Choose '
            'another place: -o OUTPUT.'
        )
    plan = Plan([], output)
    for path in _files(source, output, plan.links):
        suffix = path.suffix.lower()
        place = output / path.relative_to(source)
        if suffix in PICTURE_SUFFIXES:
            plan.jobs.append(_job_in_folder(path, place, 'picture'))
        elif suffix in VIDEO_SUFFIXES:
            import_av()
            plan.jobs.append(_job_in_folder(path, place, 'video'))
        else:
            plan.left_alone[suffix or 'no ending'] += 1
    if not plan.jobs:
        raise RequestError(
            f'{source}: no pictures in it ({", ".join(PICTURE_SUFFIXES)}) and no videos ({", ".join(VIDEO_SUFFIXES)}).'
        )
    return plan


def _files(source: Path, output: Path, links: list[Path]) -> Iterator[Path]:
    """The files under ``source`` in the order of their names, but hidden ones and those under ``output``.

    Links to folders, which might lead in a circle, are not followed and added to ``links``.
    """
    unreadable: list[OSError] = []
    inside = output.resolve()
    for folder, names, files in os.walk(source, onerror=unreadable.append):
        here = Path(folder)
        names[:] = sorted(name for name in names if name[0] != '.' and (here / name).resolve() != inside)
        links += [here / name for name in names if (here / name).is_symlink()]
        yield from (here / name for name in sorted(files) if name[0] != '.')
    if unreadable:
        raise RequestError(f'{unreadable[0].filename}: this folder cannot be read: {unreadable[0].strerror}.')
