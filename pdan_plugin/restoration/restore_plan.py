"""What `basicsr restore` will do: which files go where, and what is already done, before anything is written."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.json_files import json_text
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs, try_writing
from pdan_plugin.media.picture_files import PICTURE_SUFFIXES
from pdan_plugin.media.picture_writing import WRITTEN_SUFFIXES
from pdan_plugin.media.pyav import import_av
from pdan_plugin.media.video_source import (
    VIDEO_SUFFIXES,
    WRITTEN_VIDEO_SUFFIXES,
    VideoFileError,
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


def begin(plan: Plan, settings: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """Claims the results for these settings, and says which jobs are left.

    A folder gets a record: the settings of every run into it, with the results that are to be theirs and since when. A
    result made since then, from a source not changed since, is done. With ``overwrite`` this run's results are claimed
    anew, so that a run stopped half way goes on with the rest; other results stay recorded as they were made.

    Raises:
        RequestError: A result is there with other settings or of unknown making, or the output cannot be written; a
            folder or file that was there before is as it was.
    """
    if plan.folder is None:
        (job,) = plan.jobs
        if job.target.exists() and not overwrite:
            raise RequestError(f'{job.target} is there already. Give another -o, or --overwrite.')
        _try_writing(job.target)
        return plan.jobs
    names = {job.target.relative_to(plan.folder).as_posix(): job for job in plan.jobs}
    record = plan.folder / RECORD
    try:
        runs = read_record(record)
    except RequestError:
        if not overwrite:
            raise
        runs = []
    if not overwrite:
        _refuse_other_makings(plan.folder, names, runs, settings)
    begun = _claim(record, runs, settings, names, overwrite=overwrite)
    for folder in {job.target.parent for job in plan.jobs}:
        with contextlib.suppress(OSError):  # a folder that cannot be read is reported when its turn comes
            remove_left_overs(folder)
    return [job for name, job in names.items() if not _is_done(job, begun[name])]


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


def _is_done(job: Job, begun: int) -> bool:
    if not job.target.is_file():
        return False
    made = job.target.stat().st_mtime_ns
    return made >= begun and made >= job.source.stat().st_mtime_ns


def read_record(record: Path) -> list[dict[str, Any]]:
    """The runs into a folder: ``settings``, and ``results``, name -> nanoseconds; none where there is no record.

    Raises:
        RequestError: It cannot be read.
    """
    if not record.exists():
        return []
    try:
        runs = json.loads(record.read_text(encoding='utf-8'))['runs']
        return [
            {'settings': dict(run['settings']), 'results': {str(k): int(v) for k, v in run['results'].items()}}
            for run in runs
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(
            f'{record} cannot be read, so how the results there were made is unknown. Give another -o, or --overwrite.'
        ) from error


def _refuse_other_makings(
    folder: Path, names: dict[str, Job], runs: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    there = [name for name, job in names.items() if job.target.exists()]
    for run in runs:
        others = [name for name in there if name in run['results']]
        there = [name for name in there if name not in run['results']]
        made = run['settings']
        differing = [key for key in {**made, **settings} if made.get(key) != settings.get(key)]
        if others and differing:
            told = '; '.join(
                f'{key}: {_short(made.get(key))} there, {_short(settings.get(key))} now' for key in differing
            )
            raise RequestError(
                f'{folder} holds results made otherwise, such as {others[0]} ({told}). Give another -o, or --overwrite '
                'to make them anew.'
            )
    if there:
        raise RequestError(
            f'{folder} holds {len(there)} of the results already, such as {folder / there[0]}, and no {RECORD} tells '
            'how they were made. Give another -o, or --overwrite.'
        )


def _claim(
    record: Path, runs: list[dict[str, Any]], settings: dict[str, Any], names: Iterable[str], *, overwrite: bool
) -> dict[str, int]:
    """Records that ``names`` are made by ``settings`` from now on; since when each is, on the clock of its disk."""
    own: dict[str, int] = {}
    others = []
    for run in runs:
        if run['settings'] == settings:
            own |= run['results']
        else:
            run['results'] = {name: since for name, since in run['results'].items() if name not in names}
            others += [run] if run['results'] else []
    with refusing_unwritable(record), opened_whole(record, durable=True) as file:
        os.utime(file.name)
        now = os.stat(file.name).st_mtime_ns
        own |= {name: now for name in names if overwrite or name not in own}
        content = {'made_by': 'basicsr restore', 'runs': [*others, {'settings': settings, 'results': own}]}
        file.write(json_text(content).encode())
    return own


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _try_writing(target: Path) -> None:
    with refusing_unwritable(target):
        try_writing(target)
