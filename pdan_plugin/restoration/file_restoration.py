"""`basicsr restore`: restores a picture, a video, or a folder of both."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import struct
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import cv2
import torch
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import file_digest
from pdan_plugin.machine.compiler_check import require_compiler
from pdan_plugin.machine.devices import choose_device, choose_devices
from pdan_plugin.machine.precision import choose_precision, slowness, why_precision
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.restoration.claimed_results import RECORD, begin, left_to_do, precision_of_earlier
from pdan_plugin.restoration.dry_run import list_results
from pdan_plugin.restoration.jobs import Job, Plan, make_plan
from pdan_plugin.restoration.one_file import restore_video_job
from pdan_plugin.restoration.picture_jobs import PictureJobs, decoded_for_its_ending
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.result_checks import check_results, refuse_too_little_memory
from pdan_plugin.restoration.several_devices import SeveralDevices
from pdan_plugin.weights.packaged_weights import find_weights_file
from pdan_plugin.weights.trained_network import load_recorded_network

_DISK_IS_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # all later results would fail too
_OF_WRITING = (*_DISK_IS_LOST, errno.EFBIG)  # the error may name no file: it is the target


def restore_path(
    source: Path,
    target: Path,
    weights: Path | None = None,
    option_file: Path | None = None,
    *,
    param_key: str | None = None,
    precision: Literal['auto', 'fp32', 'bf16', 'fp16'] = 'auto',
    compiled: bool = False,
    tile: int | Literal['auto'] | None = 'auto',
    overlap: int | None = None,
    memory: int | None = None,
    self_ensemble: bool = False,
    local_pooling: int | None = None,
    cuda_graphs: bool = True,
    device: str | None = None,
    devices: str | None = None,
    overwrite: bool = False,
    results: ResultSettings | None = None,
    dry_run: bool = False,
) -> int:
    """Restores ``source`` into ``target`` and keeps its sub-folders.

    Args:
        source: A picture, a video, or a folder of both.
        target: A folder; for one file also a file name. In a folder, pictures become PNG and videos .mp4 (.mkv if their
            sound needs it). ``restore.json`` records the settings. Results made with the same settings are kept.
        weights: A file, or the name of weights that come with this package; None for ``pdan_small``. See
            :func:`~pdan_plugin.weights.trained_network.load_trained_network`, also for ``option_file`` and
            ``param_key``.
        precision: See :class:`~pdan_plugin.restoration.restorer.Restorer`, also for the arguments after it. 'auto': see
            :func:`~pdan_plugin.machine.precision.choose_precision`.
        device: Such as 'cuda:1'; None or 'auto': see :func:`~pdan_plugin.machine.devices.choose_device`.
        devices: Several devices that share the work, such as '0,1'; 'auto' for all GPUs. See
            :func:`~pdan_plugin.machine.devices.choose_devices`.
        overwrite: Whether to make existing results again.
        results: Size, format and names of the results; None for the defaults.
        dry_run: Whether the results are only listed. Nothing is written then.

    Returns:
        0, or 1 if a file was not restored completely. Its name and the reason are printed, and the other files are
        restored.

    Raises:
        RequestError: The request cannot be carried out; nothing was written.
    """
    asked = weights
    weights, is_packaged = find_weights_file(asked)
    if is_packaged and option_file is not None:
        raise RequestError(
            f'-opt {option_file}: an option file needs your own weights: add -w FILE, or leave -opt out to use '
            f'{weights.stem}, which comes with this package'
        )
    results = results or ResultSettings()
    results.check()
    several = _devices(devices, device)
    chosen = several[0]
    if compiled:
        _require_compiler(chosen)
    plan = make_plan(source, target, results.picture.ending, results.suffix)
    check_results(plan, results)
    network, record = load_recorded_network(weights, option_file, chosen, param_key=param_key)
    settings = {
        'weights': ', '.join([weights.name, *([param_key] if param_key else []), f'sha256 {file_digest(weights)}']),
        'network': record.options,
        'precision': precision,
        'self_ensemble': self_ensemble,
        **({} if local_pooling is None else {'local_pooling': local_pooling}),
        **results.recorded(),
    }
    used_precision, why = choose_precision(precision, chosen), ''
    if precision == 'auto':
        earlier = None if overwrite else precision_of_earlier(plan, settings)
        why = why_precision(chosen) if earlier is None else 'as the results that are there already'
        used_precision = earlier or used_precision
    settings['precision'] = used_precision
    restorers = [
        Restorer(
            network,
            each,
            precision=used_precision,
            compiled=compiled,
            tile=tile,
            overlap=overlap,
            memory=memory,
            self_ensemble=self_ensemble,
            local_pooling=local_pooling,
            cuda_graphs=cuda_graphs,
        )
        for each in several
    ]
    restorer = restorers[0]
    if restorer.channels != 3:
        raise RequestError(f'{weights}: the network takes {restorer.channels} channels; pictures and videos have 3.')
    refuse_too_little_memory(plan.jobs, restorer)
    if source.is_file():
        plan.jobs = [decoded_for_its_ending(plan.jobs[0], results, restorer.scale)]
    if dry_run:
        return list_results(plan, left_to_do(plan, settings, overwrite=overwrite), results, restorer.scale)
    if is_packaged:
        print(f'Weights: {weights.stem}, which comes with this package ({_size(network)} parameters).', flush=True)
    for note in record.notes:
        print(f'Note: {note}', flush=True)
    if precision == 'auto':
        print(f'Precision: {used_precision} on {chosen} ({why}).', flush=True)
    elif slow := slowness(chosen, precision):
        print(f'Note: {slow}.', flush=True)
    is_new = plan.folder is not None and not (plan.folder / RECORD).exists()
    jobs = begin(plan, settings, overwrite=overwrite)
    summary = _Summary(plan, len(plan.jobs) - len(jobs))
    if compiled and jobs:
        print('Compiling: the first picture takes longer, minutes for a deep network.', flush=True)
    try:
        with SeveralDevices(restorers) if len(restorers) > 1 else contextlib.nullcontext(restorer) as working:
            _work(jobs, working, restorer.spare, results, summary)
    except KeyboardInterrupt:
        same = 'The same command' + (' without --overwrite' if overwrite and plan.folder else '')
        print(f'Stopped; no half-written result is left. {same} continues from here.', file=sys.stderr)
        raise
    if plan.folder is not None and is_new and summary.restored + summary.skipped == 0:
        (plan.folder / RECORD).unlink(missing_ok=True)  # a record of no results
        with contextlib.suppress(OSError):
            plan.folder.rmdir()
    summary.notes += [note for each in restorers for note in each.notes]
    summary.report(target)
    if not self_ensemble and not summary.failures:
        # a name such as -a.png would be read as an option
        named = os.path.join('.', source) if str(source).startswith('-') else source
        words: list[Any] = ['basicsr', 'restore', named, '-o', _beside(target)]
        words += ['-w', asked] if asked is not None else []
        words += ['-opt', option_file] if option_file is not None else []
        words += ['--param-key', param_key] if param_key is not None else []
        words += ['--precision', precision] if precision != 'auto' else []
        words += ['--compile'] if compiled else []
        words += ['--tile', tile] if isinstance(tile, int) else []
        words += ['--overlap', overlap] if overlap is not None else []
        words += ['--memory', memory] if memory is not None else []
        words += ['--local-pooling', local_pooling] if local_pooling is not None else []
        words += ['--no-cuda-graphs'] if not cuda_graphs else []
        words += ['--device', device] if device not in (None, 'auto') else []
        words += ['--devices', devices] if devices is not None else []
        words += results.words()
        command = shlex.join(map(str, [*words, '--self-ensemble']))
        print(f'Next, a little better in eight times the time:\n  {command}', flush=True)
    return 1 if summary.failures else 0


@dataclass
class _Summary:
    plan: Plan
    skipped: int
    restored: int = 0
    incomplete: int = 0
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def note(self, job: Job, text: str) -> None:
        self.notes.append(f'{job.source}: {text}')

    def fail(self, path: Path, reason: str) -> None:
        self.failures.append(f'{path}: {reason}')
        tqdm.write(self.failures[-1], file=sys.stderr)

    def take(self, job: Job, error: Exception | None) -> bool:
        """Counts a job that has ended; returns whether others can still succeed."""
        if error is None:
            self.restored += 1
        elif isinstance(error, OSError):
            self.fail(job.source, _reason(error, job))
            if error.errno in _DISK_IS_LOST:
                self.fail(job.target.parent, 'nothing more can be written; stopped here')
                return False
        elif isinstance(error, (RuntimeError, ValueError, MemoryError, cv2.error, struct.error)):
            self.fail(job.source, str(error) or type(error).__name__)
        else:
            raise error
        return True

    def report(self, target: Path) -> None:
        counts = [f'{self.restored} of {len(self.plan.jobs)} restored to {target}']
        if self.incomplete:
            counts.append(f'{self.incomplete} of them incomplete')
        if self.skipped:
            counts.append(f'{self.skipped} already done with the same settings (--overwrite makes them again)')
        print('; '.join(counts))
        if self.plan.left_alone:
            endings = ', '.join(f'{count} {ending}' for ending, count in self.plan.left_alone.most_common(8))
            print(f'Skipped, no pictures or videos that can be read: {endings}')
        for link in self.plan.links:
            print(f'Skipped, a link to a folder: {link}; restore it separately')
        for note in dict.fromkeys(self.notes):
            print(f'Note: {note}')
        if self.failures:
            print(f'{len(self.failures)} failed or incomplete:', file=sys.stderr)
            for failure in self.failures:
                print(f'  {failure}', file=sys.stderr, flush=True)


def _work(
    jobs: list[Job], restorer: PictureRestorer, most_bytes: int | None, results: ResultSettings, summary: _Summary
) -> None:
    with tqdm(total=len(jobs), unit='file', disable=not jobs) as bar:

        def on_tile(job: Job, done: int, total: int) -> None:
            name = job.source.name
            bar.set_postfix_str(f'{name}, tile {done}/{total}' if total > 1 else name)

        pictures = PictureJobs(restorer, results, on_tile, most_bytes, summary.note)
        for kind, group in groupby(jobs, key=lambda job: job.kind):
            of_kind = list(group)
            run = pictures.run(of_kind) if kind == 'picture' else _restore_videos(of_kind, pictures, summary)
            with contextlib.closing(run):
                for job, error in run:
                    bar.update()
                    if not summary.take(job, error):
                        return


def _restore_videos(
    jobs: Iterable[Job], settings: PictureJobs, summary: _Summary
) -> Generator[tuple[Job, Exception | None]]:
    for job in jobs:
        error: Exception | None = None
        try:
            _restore_video(job, settings, summary)
        except Exception as raised:
            error = raised
        yield job, error


def _restore_video(job: Job, settings: PictureJobs, summary: _Summary) -> None:
    with tqdm(unit='frame', desc=job.source.name, leave=False) as frames:

        def on_frame(done: int, total: int) -> None:
            frames.total = max(done, total) if total else None
            frames.update(done - frames.n)

        on_tile = partial(settings.on_tile, job)
        outcome = restore_video_job(settings.restorer, job, settings.results, on_frame, on_tile, settings.most_bytes)
    for note in outcome.notes:
        summary.note(job, note)
    summary.incomplete += bool(outcome.problems)
    for problem in outcome.problems:
        summary.fail(job.source, problem)


def _devices(names: str | None, name: str | None) -> list[torch.device]:
    if names is not None and name not in (None, 'auto'):
        raise RequestError(f'--device {name} and --devices {names}: give one of them')
    try:
        return [choose_device(name)] if names is None else choose_devices(names)
    except RequestError as error:
        raise RequestError(f'--{error}') from error


def _require_compiler(device: torch.device) -> None:
    try:
        require_compiler(on_gpu=device.type in ('cuda', 'xpu'))
    except RequestError as error:
        raise RequestError(f'--compile: {error}') from error


def _reason(error: OSError, job: Job) -> str:
    place = error.filename or (job.target if error.errno in _OF_WRITING else None)
    text = error.strerror or str(error)
    return text if place is None or Path(str(place)) == job.source else f'{place}: {text}'


def _size(network: torch.nn.Module) -> str:
    return f'{sum(each.numel() for each in network.parameters()) / 1e6:.2f}M'


def _beside(target: Path) -> Path:
    return target.resolve().with_name(f'{target.resolve().stem}_ensemble{target.suffix}')
