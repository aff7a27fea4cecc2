"""The record in a folder of results: the settings of each result, and which results are done."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.json_files import json_text
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs, try_writing
from pdan_plugin.restoration.jobs import Job, Plan

RECORD = 'restore.json'


def begin(plan: Plan, settings: dict[str, Any], *, overwrite: bool) -> list[Job]:
    """Records which results this run makes with which settings, and returns the jobs that are left.

    The record of a folder lists the settings of every run, the results that each run claims, and the time of the claim.
    A result is done if its file is newer than the claim and than its source. With ``overwrite`` the results of this run
    are claimed again, and an interrupted run can continue later. The entries of other results do not change.

    Raises:
        RequestError: A result exists that was made with other or unknown settings, or the output cannot be written.
            Existing files do not change.
    """
    if plan.folder is None:
        (job,) = plan.jobs
        if job.target.exists() and not overwrite:
            raise RequestError(f'{job.target} exists already. Give another -o, or --overwrite.')
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
        with contextlib.suppress(OSError):  # a folder that cannot be read is reported when its jobs run
            remove_left_overs(folder)
    return [job for name, job in names.items() if not _is_done(job, begun[name])]


def _is_done(job: Job, begun: int) -> bool:
    if not job.target.is_file():
        return False
    made = job.target.stat().st_mtime_ns
    return made >= begun and made >= job.source.stat().st_mtime_ns


def read_record(record: Path) -> list[dict[str, Any]]:
    """The runs recorded for a folder: ``settings``, and ``results`` (name -> time of the claim in nanoseconds).

    The list is empty if there is no record.

    Raises:
        RequestError: The record cannot be read.
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


def _claim(
    record: Path, runs: list[dict[str, Any]], settings: dict[str, Any], names: Iterable[str], *, overwrite: bool
) -> dict[str, int]:
    """Records that this run makes ``names``; returns name -> time of the claim, in nanoseconds of the disk's clock."""
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
