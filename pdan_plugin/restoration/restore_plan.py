"""What `basicsr restore` will do: which files go where, and what is already done, before anything is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.restoration.picture_files import PICTURE_SUFFIXES
from pdan_plugin.restoration.picture_writing import WRITTEN_SUFFIXES, partial_path
from pdan_plugin.restoration.video_source import (
    VIDEO_SUFFIXES,
    WRITTEN_VIDEO_SUFFIXES,
    VideoFileError,
    import_av,
    refused_streams,
    result_suffix,
)

RECORD = 'restore.json'


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path
    kind: Literal['picture', 'video']


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs: In the order of their names.
        folder: That results go into; None where the output is a file.
        left_alone: Endings of files in the input that are neither pictures nor videos, and how many there are.
    """

    jobs: list[Job]
    folder: Path | None
    left_alone: Counter[str] = field(default_factory=Counter)


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
        raise RequestError(f'{source}: no such picture, video or folder.')
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


def file_digest(path: Path) -> str:
    """SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def begin(plan: Plan, settings: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """Claims the output for these settings, and says which jobs are left.

    A folder gets a record of the settings. What was restored under that record since, from a source not changed since,
    is done. With ``overwrite`` a new record is begun, so that a run stopped half way goes on with the rest.

    Raises:
        RequestError: The output holds results of other settings or of unknown making, or cannot be written; a folder
            or file that was there before is as it was.
    """
    if plan.folder is None:
        (job,) = plan.jobs
        if job.target.exists() and not overwrite:
            raise RequestError(f'{job.target} is there already. Give another -o, or --overwrite.')
        _try_writing(job.target)
        return plan.jobs
    record = plan.folder / RECORD
    if overwrite or not record.exists():
        there = [job.target for job in plan.jobs if job.target.exists()]
        if there and not overwrite:
            raise RequestError(
                f'{plan.folder} holds {len(there)} of the results already, such as {there[0]}, and no {RECORD} tells '
                'how they were made. Give another -o, or --overwrite.'
            )
        _write_record(record, settings)
    else:
        _check_record(record, settings)
        _try_writing(plan.folder / RECORD)
    begun = record.stat().st_mtime_ns
    for job in plan.jobs:
        with contextlib.suppress(OSError):  # what cannot be written is told when its turn comes
            partial_path(job.target).unlink()  # of a run that was killed
    return [job for job in plan.jobs if not _is_done(job, begun)]


def _plan_file(source: Path, output: Path) -> Plan:
    suffix, ending = source.suffix.lower(), output.suffix.lower()
    is_video = suffix in VIDEO_SUFFIXES
    if is_video:
        import_av()
    kind, written = ('video', WRITTEN_VIDEO_SUFFIXES) if is_video else ('picture', WRITTEN_SUFFIXES)
    if output.is_dir() or not ending:
        new = result_suffix(source) if is_video else '.png'
        return Plan([Job(source, output / f'{source.stem}{new}', kind)], output)
    if ending not in written:
        raise RequestError(
            f'{output}: not an ending of a {kind} that is written ({", ".join(written)}). '
            'If it is to be a folder, make it first.'
        )
    if is_video:
        _refuse_lost_sound(source, output)
    return Plan([Job(source, output, kind)], None)


def _refuse_lost_sound(source: Path, output: Path) -> None:
    try:
        refused = [stream for stream in refused_streams(source, output.suffix.lower()) if stream.type == 'audio']
    except (VideoFileError, OSError):
        return  # told when it is restored
    if refused:
        raise RequestError(
            f'{output}: the sound of {source} ({refused[0].codec}) cannot be copied into '
            f'{output.suffix}. Give an output that ends in {_other(output.suffix.lower())}.'
        )


def _other(suffix: str) -> str:
    return next(each for each in WRITTEN_VIDEO_SUFFIXES if each != suffix)


def _plan_folder(source: Path, output: Path) -> Plan:
    if output.exists() and not output.is_dir():
        raise RequestError(f'{output} is a file; the results of a folder need a folder.')
    if output.is_dir() and output.samefile(source):
        raise RequestError(
            f'{output} is the input itself: pictures would be overwritten, or results taken for pictures later. Choose '
            'another place: -o OUTPUT.'
        )
    plan = Plan([], output)
    for path in _files(source, output):
        suffix = path.suffix.lower()
        place = output / path.relative_to(source)
        if suffix in PICTURE_SUFFIXES:
            plan.jobs.append(Job(path, place.with_suffix('.png'), 'picture'))
        elif suffix in VIDEO_SUFFIXES:
            import_av()
            plan.jobs.append(Job(path, place.with_suffix(result_suffix(path)), 'video'))
        else:
            plan.left_alone[suffix or 'no ending'] += 1
    if not plan.jobs:
        raise RequestError(
            f'{source}: no pictures in it ({", ".join(PICTURE_SUFFIXES)}) and no videos ({", ".join(VIDEO_SUFFIXES)}).'
        )
    return plan


def _files(source: Path, output: Path) -> Iterator[Path]:
    """The files under ``source`` in the order of their names, but hidden ones and those under ``output``."""
    unreadable: list[OSError] = []
    inside = output.resolve()
    for folder, names, files in os.walk(source, onerror=unreadable.append):
        here = Path(folder)
        names[:] = sorted(name for name in names if name[0] != '.' and (here / name).resolve() != inside)
        yield from (here / name for name in sorted(files) if name[0] != '.')
    if unreadable:
        raise RequestError(f'{unreadable[0].filename}: this folder cannot be read: {unreadable[0].strerror}.')


def _is_done(job: Job, begun: int) -> bool:
    if not job.target.is_file():
        return False
    made = job.target.stat().st_mtime_ns
    return made >= begun and made >= job.source.stat().st_mtime_ns


def _check_record(record: Path, settings: dict[str, Any]) -> None:
    try:
        there = json.loads(record.read_text(encoding='utf-8'))
        made = dict(there['settings'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f'{record} cannot be read, so how the results there were made is unknown. Give another -o, or --overwrite.'
        ) from error
    differing = [key for key in {**made, **settings} if made.get(key) != settings.get(key)]
    if differing:
        told = '; '.join(f'{key}: {_short(made.get(key))} there, {_short(settings.get(key))} now' for key in differing)
        raise RequestError(
            f'{record.parent} holds results made otherwise ({told}). Give another -o, or --overwrite to make them anew.'
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _write_record(record: Path, settings: dict[str, Any]) -> None:
    with refusing_unwritable(str(record.parent)):
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_path(record)
        try:
            partial.write_text(json.dumps({'made_by': 'basicsr restore', 'settings': settings}, indent=2) + '\n')
            os.replace(partial, record)
        finally:
            partial.unlink(missing_ok=True)


def _try_writing(target: Path) -> None:
    with refusing_unwritable(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial_path(target).touch()
        partial_path(target).unlink()
