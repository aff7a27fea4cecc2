"""The record in a folder of results: the settings and the source of each result, and which results are done."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.digests import file_digest
from pdan_plugin.files.json_files import json_text
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs, try_writing
from pdan_plugin.restoration.jobs import Job, Plan

RECORD = 'restore.json'


@dataclass(frozen=True)
class Source:
    """The file that a result is made from.

    Attributes:
        path: Absolute, links resolved.
        size: Bytes.
        modified: Time of the last change, in nanoseconds.
        sha256: Digest of the content; None if it cannot be read.
    """

    path: str
    size: int
    modified: int
    sha256: str | None

    def is_same(self, other: Source) -> bool:
        """Whether both are one file, changed or not, or have the same content."""
        return self.path == other.path or (self.sha256 is not None and self.sha256 == other.sha256)


@dataclass(frozen=True)
class Claim:
    """A result that a run makes, or has made.

    Attributes:
        since: Time of the claim, in nanoseconds of the disk's clock; an older result is from an earlier claim.
        source: None in the record of an earlier version.
    """

    since: int
    source: Source | None


def precision_of_earlier(plan: Plan, settings: dict[str, Any]) -> str | None:
    """The precision of existing results of a plan that were made with these settings and any precision; None if there
    are none.

    Raises:
        RequestError: The record cannot be read.
    """
    if plan.folder is None:
        return None
    names = {job.target.relative_to(plan.folder).as_posix() for job in plan.jobs if job.target.exists()}
    for run in read_record(plan.folder / RECORD):
        made = run['settings']
        if names & set(run['results']) and made == {**settings, 'precision': made.get('precision')}:
            return made.get('precision')
    return None


def left_to_do(plan: Plan, settings: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """The jobs that :func:`begin` would return; writes nothing.

    Raises:
        RequestError: See :func:`begin`, except for an output that cannot be written.
    """
    if plan.folder is None:
        _refuse_existing(plan.jobs[0].target, overwrite=overwrite)
        return plan.jobs
    names, runs, sources = _examined(plan, plan.folder, settings, overwrite=overwrite)
    own = _own_claims(runs, settings)
    return [
        job
        for name, job in names.items()
        if overwrite or not _is_kept(own.get(name), sources[name]) or not _is_done(job, own[name].since)
    ]


def begin(plan: Plan, settings: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """Records which results this run makes with which settings, and returns the jobs that are left.

    The record of a folder lists the settings of every run, the results that each run claims, their sources, and the
    time of the claim. A result is done if it was made from the same source, and its file is newer than the claim and
    than the source. A source is known by its path or by its content: a file that changed is restored again, and one
    that only moved keeps its result. With ``overwrite`` the results of this run are claimed again, and an interrupted
    run can continue later. The entries of other results do not change.

    Raises:
        RequestError: A result exists that was made with other or unknown settings or from another source, or the output
            cannot be written. Existing files do not change.
    """
    if plan.folder is None:
        (job,) = plan.jobs
        _refuse_existing(job.target, overwrite=overwrite)
        _try_writing(job.target)
        return plan.jobs
    names, runs, sources = _examined(plan, plan.folder, settings, overwrite=overwrite)
    begun = _claim(plan.folder / RECORD, runs, settings, sources, overwrite=overwrite)
    for folder in {job.target.parent for job in plan.jobs}:
        with contextlib.suppress(OSError):  # a folder that cannot be read is reported when its jobs run
            remove_left_overs(folder)
    return [job for name, job in names.items() if not _is_done(job, begun[name])]


def _refuse_existing(target: Path, *, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise RequestError(f'{target} exists already. Give another -o, or --overwrite.')


def _examined(
    plan: Plan, folder: Path, settings: dict[str, Any], *, overwrite: bool
) -> tuple[dict[str, Job], list[dict[str, Any]], dict[str, Source]]:
    """The jobs by the names of their results, the recorded runs, and the source of each result."""
    names = {job.target.relative_to(folder).as_posix(): job for job in plan.jobs}
    try:
        runs = read_record(folder / RECORD)
    except RequestError:
        if not overwrite:
            raise
        runs = []
    sources = _sources(names, runs)
    if not overwrite:
        _refuse_other_makings(folder, names, runs, settings)
        _refuse_other_sources(folder, names, runs, sources)
    return names, runs, sources


def _own_claims(runs: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Claim]:
    return {name: claim for run in runs if run['settings'] == settings for name, claim in run['results'].items()}


def _is_done(job: Job, begun: int) -> bool:
    if not job.target.is_file():
        return False
    status = job.target.stat()
    if status.st_size == 0:  # emptied since: no result is
        return False
    made = status.st_mtime_ns
    return made >= begun and made >= job.source.stat().st_mtime_ns


def read_record(record: Path) -> list[dict[str, Any]]:
    """The runs recorded for a folder: ``settings``, and ``results`` (name -> `Claim`).

    The list is empty if there is no record.

    Raises:
        RequestError: The record cannot be read.
    """
    if not record.exists():
        return []
    try:
        runs = json.loads(record.read_text(encoding='utf-8'))['runs']
        return [
            {
                'settings': dict(run['settings']),
                'results': {str(name): _claim_in(value) for name, value in run['results'].items()},
            }
            for run in runs
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(
            f'{record} cannot be read, so the settings of these results are unknown. Give another -o, or --overwrite.'
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
            changes = '; '.join(
                f'{key}: {_short(made.get(key))} there, {_short(settings.get(key))} now' for key in differing
            )
            raise RequestError(
                f'{folder} holds results made with other settings, such as {others[0]} ({changes}). Give another -o, '
                'or --overwrite to make them again.'
            )
    if there:
        raise RequestError(
            f'{folder} already holds {len(there)} of the results, such as {folder / there[0]}, and no {RECORD} records '
            'their settings. Give another -o, or --overwrite.'
        )


def _is_kept(before: Claim | None, now: Source) -> bool:
    """Whether an earlier claim is for the same content."""
    source = None if before is None else before.source
    return source is not None and (source.size, source.sha256) == (now.size, now.sha256)


def _claim_in(value: Any) -> Claim:
    """A claim as JSON; earlier versions recorded only its time."""
    if not isinstance(value, dict):
        return Claim(int(value), None)
    source = value['source']
    return Claim(int(value['since']), None if source is None else Source(**source))


def _sources(names: dict[str, Job], runs: list[dict[str, Any]]) -> dict[str, Source]:
    """The source of each result. A file that has not been touched since it was recorded is not read again."""
    recorded = {name: claim.source for run in runs for name, claim in run['results'].items()}
    sources = {}
    for name, job in tqdm(names.items(), desc='reading sources', unit='file', leave=False, delay=2):
        path = os.path.realpath(job.source)
        try:
            status = os.stat(path)
        except OSError:
            sources[name] = Source(path, 0, 0, None)
            continue
        source, before = Source(path, status.st_size, status.st_mtime_ns, None), recorded.get(name)
        if before is not None and (before.path, before.size, before.modified) == (path, source.size, source.modified):
            source = before
        if source.sha256 is None and stat.S_ISREG(status.st_mode):
            with contextlib.suppress(OSError):  # reported when its job runs
                source = replace(source, sha256=file_digest(path))
        sources[name] = source
    return sources


def _refuse_other_sources(
    folder: Path, names: dict[str, Job], runs: list[dict[str, Any]], sources: dict[str, Source]
) -> None:
    for run in runs:
        for name, claim in run['results'].items():
            if name not in names or not names[name].target.exists():
                continue
            if claim.source is None:
                raise RequestError(
                    f'{folder / name} was made by an earlier version, which did not record the source. Give another '
                    f'-o, or --overwrite to make it again from {names[name].source}.'
                )
            if not claim.source.is_same(sources[name]):
                raise RequestError(
                    f'{folder / name} is the result of another source, {claim.source.path}; that of '
                    f'{names[name].source} would have the same name. Give another -o, or --overwrite to replace it.'
                )


def _claim(
    record: Path,
    runs: list[dict[str, Any]],
    settings: dict[str, Any],
    sources: dict[str, Source],
    *,
    overwrite: bool,
) -> dict[str, int]:
    """Records that this run makes results from ``sources``; returns name -> time of the claim."""
    own = _own_claims(runs, settings)
    others = []
    for run in runs:
        if run['settings'] != settings:
            run['results'] = {name: claim for name, claim in run['results'].items() if name not in sources}
            others += [run] if run['results'] else []
    with refusing_unwritable(record), opened_whole(record, durable=True) as file:
        os.utime(file.name)
        now = os.stat(file.name).st_mtime_ns
        for name, source in sources.items():
            before = own.get(name)
            is_kept = before is not None and not overwrite and _is_kept(before, source)
            own[name] = Claim(before.since if before is not None and is_kept else now, source)
        runs = [*others, {'settings': settings, 'results': own}]
        content = [
            {'settings': run['settings'], 'results': {name: asdict(each) for name, each in run['results'].items()}}
            for run in runs
        ]
        file.write(json_text({'made_by': 'basicsr restore', 'runs': content}).encode())
    return {name: own[name].since for name in sources}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _try_writing(target: Path) -> None:
    with refusing_unwritable(target):
        try_writing(target)
