"""Stores of blurred and sharp frames made from sharp clips: the work behind `basicsr synthesize`.

Only the calling process writes; workers send it samples. It may be killed at any moment. The next call with the same
arguments continues, and produces the same stores and record as an uninterrupted call.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pdan_plugin.data.reds_layout import SCALE
from pdan_plugin.errors import RequestError, first_of, refusing_unwritable, some_of
from pdan_plugin.machine.cores import one_thread, usable_cores
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.preparation.disk_room import refuse_too_little_room
from pdan_plugin.preparation.next_command import tell_next
from pdan_plugin.preparation.sample_stores import Sample, SampleStores, keys_there, room_needed, store_paths
from pdan_plugin.preparation.source_clips import SourceClip
from pdan_plugin.preparation.source_survey import find_clips
from pdan_plugin.preparation.synthesis_plan import (
    Run,
    Settings,
    frames_left_over,
    plan_runs,
    shard_of,
    sharp_shape,
    usable_clips,
)
from pdan_plugin.preparation.synthesis_record import Progress, RunResult, describe, origin, results_by_clip
from pdan_plugin.preparation.synthesis_workers import Fault, Outcome, Work, outcomes
from pdan_plugin.synthesis.camera_response import Response, response
from pdan_plugin.synthesis.frame_interpolation import Interpolator, interpolator

_OPTIONS_OF_STORES = {
    'train_sharp': 'datasets:train:sources:1:dataroot_gt',
    'train_blur_bicubic_x4': 'datasets:train:sources:1:dataroot_lq',
    'train_sharp_bicubic_x4': 'datasets:train:sources:1:dataroot_lq_sharp',
}

_SECONDS_BETWEEN_COMMITS = 15.0
_WORKERS_OF_A_DEVICE = 4  # they share one graphics card: some use it while the others sum and encode


def synthesize_blur(
    source: str | Path,
    target: str | Path,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    skip_short: bool = False,
) -> list[Path]:
    """Make the three stores of SOURCE's clips under TARGET, or a shard's under ``TARGET/shard_K_of_N``.

    Args:
        source: A video, a folder of videos, of numbered frames or of such folders, or REDS's ``train_orig``.
        target: Folder of the stores and the record.
        settings: How the frames are made.
        workers: Number of processes. Default: one per core; at most 4 on a device other than the CPU.
        shard: (K, N): make only every N-th run of windows, starting with the K-th.
        skip_short: Leave out clips shorter than a window instead of rejecting them.

    Returns:
        The paths of the three stores.

    Raises:
        RequestError: Settings, source or TARGET cannot be used; nothing is written then. Or frames are damaged: the
            error lists those found, good frames are kept for the next call, and no store is put in place.
        WorkError: A worker died, or the disk failed.
    """
    settings = settings or Settings()
    if workers is not None and workers < 1:
        raise RequestError(f'workers must be at least 1, got {workers}')
    workers = workers or (usable_cores() if settings.device == 'cpu' else min(usable_cores(), _WORKERS_OF_A_DEVICE))
    camera = response(settings.response)
    if camera.note:
        print(f'response {camera.name}: {camera.note}')
    method = interpolator(settings.interpolator, weights=settings.weights, device=settings.device)

    found = find_clips(source, settings.split)
    clips = usable_clips(found, settings, skip_short)
    short = [clip for clip in found if clip not in clips]
    every = plan_runs(clips, settings)
    runs = shard_of(every, shard)
    _report_plan(clips, short, every, runs, settings)

    target = Path(target)
    place = target if shard is None else shard_folder(target, shard)
    progress = Progress(place, describe(settings, method, camera, clips, short, shard))
    if progress.is_finished():
        print(f'{place}: already complete, kept')
    else:
        there = keys_there(place, settings.split)
        check_room(
            place, (sharp_shape(run.clip) for run in runs for key in run.keys if key not in there), settings.codec
        )
        _try_method(method, clips, settings)
        with refusing_unwritable(str(place)):
            progress.begin()
        _make(runs, settings, camera, place, progress, workers)
    paths = list(store_paths(place, settings.split).values())
    tell_stores(paths)
    if shard is None:
        tell_training(paths)
    else:
        print(f'Next, when all shards are made: {merge_command(target)}')
    return paths


def tell_training(stores: Sequence[Path]) -> None:
    """Prints the next command: the check of the phase that trains on the stores."""
    tell_next('pdan_phase3', 'datasets/synthesised', _OPTIONS_OF_STORES, stores)


def shard_folder(target: Path, shard: tuple[int, int]) -> Path:
    """The folder of a shard's stores under TARGET."""
    return target / f'shard_{shard[0]}_of_{shard[1]}'


def merge_command(target: Path) -> str:
    return f'basicsr synthesize {target} --merge'


def check_room(target: Path, shapes: Iterable[tuple[int, int, int]], codec: str) -> None:
    """Print how much disk space the stores need, from the shapes of the sharp frames still to be written.

    Raises:
        RequestError: The disk has less space free.
    """
    every = list(shapes)
    needed = room_needed(every, codec)
    print(f'{target}: {len(every)} frames to write, at most about {disk_in_words(needed)} as {codec} in three stores')
    refuse_too_little_room(target, needed, codec)


def tell_stores(paths: Sequence[Path]) -> None:
    """Print the number of frames and the size of each finished store."""
    for path in paths:
        with (path / 'meta_info.txt').open('rb') as lines:
            frames = sum(1 for _ in lines)
        print(f'{path}: {frames} frames, {disk_in_words((path / "data.mdb").stat().st_size)}')


def _report_plan(
    clips: Sequence[SourceClip],
    short: Sequence[SourceClip],
    every: Sequence[Run],
    runs: Sequence[Run],
    settings: Settings,
) -> None:
    windows = sum(len(run.centres) for run in every)
    frames = sum(clip.frames for clip in clips)
    print(f'{len(clips)} clips, {frames} source frames: {windows} windows in {len(every)} runs')
    for clip in short:
        print(f'{clip.place}: {clip.frames} frames, fewer than the {settings.window.frames} of a window; left out')
    left_over, cut = [], []
    for clip in clips:
        left = frames_left_over(clip.frames, settings)
        if left:
            left_over.append(f'{clip.place}: the last {left} of its {clip.frames} frames fill no window')
        height, width, _ = sharp_shape(clip)
        if (height, width) != clip.size:
            cut.append(
                f'{clip.place}: {clip.size[1]}x{clip.size[0]} is cut at the right and the bottom to {width}x{height}, '
                f'for frames {SCALE} times smaller'
            )
    for lines in (left_over, cut):
        for line in first_of(lines):
            print(line)
    if len(runs) < len(every):
        print(f'this shard: {sum(len(run.centres) for run in runs)} windows in {len(runs)} runs')


def _try_method(method: Interpolator, clips: Sequence[SourceClip], settings: Settings) -> None:
    """Run the method once, so that it rejects a factor, size or device before anything is written."""
    shape = min((sharp_shape(clip) for clip in clips), key=lambda shape: shape[0] * shape[1])
    ramp = np.linspace(0, 255, shape[1]).astype(np.uint8)
    frame = np.broadcast_to(ramp[None, :, None], shape).copy()
    if settings.window.factor > 1:
        with one_thread():
            next(iter(method.between(frame, frame[:, ::-1].copy(), settings.window.factor)))


def _make(
    runs: Sequence[Run], settings: Settings, camera: Response, place: Path, progress: Progress, workers: int
) -> None:
    """Make the missing samples; put the stores and the record in place if all could be made."""
    with SampleStores(place, settings.split, codec=settings.codec, origin=origin(progress.description)) as stores:
        progress.begin()  # checked again: only from here on can no other process write
        planned = {key for run in runs for key in run.keys}
        done = stores.done
        if not stores.begun <= planned:
            unknown = some_of(sorted(stores.begun - planned))
            raise RequestError(f'{place}: the stores hold frames that this does not make ({unknown}); remove them')
        found = _found_before(runs, done, progress)
        works = [Work(run, frozenset(done.intersection(run.keys))) for run in runs if run.number not in found]
        with tqdm(total=len(planned), desc='synthesizing', unit='frame') as bar:
            bar.update(len(done) + sum(len(result.left_out) for result in found.values()))
            # closing: after an error the workers must end first
            with contextlib.closing(outcomes(works, settings, camera, workers)) as coming:
                faults = _take(coming, stores, progress, found, bar)
        if faults:
            listed = first_of(dict.fromkeys(fault.message for fault in faults))
            raise RequestError(
                'frames cannot be used; the stores were not put in place (finished frames are kept for the next run). '
                'Replace the frames and run the same command again:\n  ' + '\n  '.join(listed)
            )
        left_out = {run.key(centre) for run in runs for centre, _ in found[run.number].left_out}
        if left_out == planned and 'shard' not in progress.description:
            raise RequestError(
                'every window touches a scene cut, so there is no frame to keep; if these are not cuts, raise '
                '--cut-threshold or add --no-cuts'
            )
        stores.finish(planned - left_out)
    progress.finish(results_by_clip(runs, found))


def _found_before(runs: Sequence[Run], done: set[str], progress: Progress) -> dict[int, RunResult]:
    """Results of the runs that an earlier call finished, if all their frames are in the stores."""
    written = progress.finished_runs()
    found = {}
    for run in runs:
        result = written.get(run.number)
        if result is not None and {*run.keys} - {run.key(centre) for centre, _ in result.left_out} <= done:
            found[run.number] = result
    return found


def _take(
    coming: Iterator[Outcome], stores: SampleStores, progress: Progress, found: dict[int, RunResult], bar: tqdm
) -> list[Fault]:
    """Store the workers' samples and add the results of finished runs; returns the faults of the other runs."""
    faults: list[Fault] = []
    waiting: list[RunResult] = []

    def commit() -> None:
        stores.commit()
        progress.add(waiting)
        waiting.clear()

    committed = time.monotonic()
    for outcome in coming:
        if isinstance(outcome, Sample):
            stores.add(outcome)
            bar.update()
        elif isinstance(outcome, Fault):
            faults.append(outcome)
        else:
            found[outcome.number] = outcome
            waiting.append(outcome)
            bar.update(len(outcome.left_out))
        if time.monotonic() - committed > _SECONDS_BETWEEN_COMMITS:
            commit()
            committed = time.monotonic()
    commit()
    return faults
