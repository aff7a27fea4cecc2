"""Runs of windows made into samples, in this process or in several.

Processes, not threads: interpolation holds Python's lock for part of its time, and one thread a process is what makes
the same bytes on every machine. Samples come back one at a time, so that a kill loses little; the pipe they come
through holds a worker back when they are not taken.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import numpy as np

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.cores import one_thread, use_one_thread
from pdan_plugin.preparation.sample_stores import Sample
from pdan_plugin.preparation.synthesis_plan import Run, Settings, sharp_shape
from pdan_plugin.preparation.synthesis_record import RunResult
from pdan_plugin.processes.worker_contexts import SpawnedWorker
from pdan_plugin.synthesis.camera_response import Response
from pdan_plugin.synthesis.frame_interpolation import Interpolator, interpolator
from pdan_plugin.synthesis.motion_blur import WindowAverage
from pdan_plugin.synthesis.scene_cuts import is_cut


@dataclass(frozen=True)
class Fault:
    """A run could not be made to its end: what is wrong with its source."""

    run: Run
    message: str


@dataclass(frozen=True)
class Work:
    """A run, and what of it is in the stores already."""

    run: Run
    done: frozenset[str]


Outcome = Sample | RunResult | Fault


def outcomes(
    works: Sequence[Work], settings: Settings, response: Response, workers: int
) -> Generator[Outcome, None, None]:
    """Samples, and after a run's last one its result or fault; in the order they come.

    Raises:
        WorkError: A worker ended or failed in a way that no source explains.
    """
    if workers == 1 or len(works) < 2:
        yield from _made_here(works, settings, response)
    else:
        yield from _made_by_processes(works, settings, response, min(workers, len(works)))


def _made_here(works: Iterable[Work], settings: Settings, response: Response) -> Iterator[Outcome]:
    with one_thread():
        method = interpolator(settings.interpolator, weights=settings.weights, device=settings.device)
        for work in works:
            yield from _outcomes_of(work, settings, response, method)


def _made_by_processes(
    works: Sequence[Work], settings: Settings, response: Response, workers: int
) -> Iterator[Outcome]:
    waiting = deque(works)
    processes: list[SpawnedWorker] = []
    busy: dict[Connection, SpawnedWorker] = {}
    try:
        for _ in range(workers):
            ours, theirs = multiprocessing.Pipe()
            process = SpawnedWorker(target=_serve, args=(theirs, settings, response), daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            busy[ours] = process
            ours.send(waiting.popleft())
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                try:
                    outcome = connection.recv()
                    if not isinstance(outcome, Sample) and waiting:
                        connection.send(waiting.popleft())
                    elif not isinstance(outcome, Sample):
                        busy.pop(connection)
                        connection.close()
                except (EOFError, OSError) as error:
                    process = busy[connection]
                    process.join(5)
                    raise WorkError(
                        f'a worker process ended by itself (exit code {process.exitcode}); where memory ran out, '
                        'fewer --workers need less. What was made is kept: the same command goes on from here'
                    ) from error
                if isinstance(outcome, WorkError):
                    raise outcome
                yield outcome
    finally:
        for process in processes:  # what they made has come; some take seconds to end by themselves
            process.kill()
            process.join()
        for connection in busy:
            connection.close()


def _serve(connection: Connection, settings: Settings, response: Response) -> None:
    """What a worker process does until its parent closes the connection, or is no more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_one_thread()
    try:
        method = interpolator(settings.interpolator, weights=settings.weights, device=settings.device)
        while True:
            for outcome in _outcomes_of(connection.recv(), settings, response, method):
                connection.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        connection.send(WorkError(f'{error or type(error).__name__}\n{traceback.format_exc()}'))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _outcomes_of(work: Work, settings: Settings, response: Response, method: Interpolator) -> Iterator[Outcome]:
    try:
        yield from run_outcomes(work, settings, response, method)
    except RequestError as error:
        yield Fault(work.run, str(error))


def run_outcomes(
    work: Work, settings: Settings, response: Response, method: Interpolator
) -> Iterator[Sample | RunResult]:
    """The samples of a run that are not there yet, then its result.

    A window that is there touches no cut, and a cut is told by every window that touches it; so what a kill left undone
    is enough to find the run's cuts again.
    """
    run, reach = work.run, settings.window.reach
    average = WindowAverage(settings.window, method, response)
    centres = [centre for centre in run.centres if run.key(centre) not in work.done]
    needed = sorted({position for centre in centres for position in range(centre - reach, centre + reach + 1)})
    coming = zip(needed, run.clip.read(needed), strict=True)
    height, width, _ = sharp_shape(run.clip)
    frames: dict[int, np.ndarray] = {}
    cuts: set[int] = set()
    compared = -1
    left_out = []
    for centre in centres:
        first, last = centre - reach, centre + reach
        frames = {position: frame for position, frame in frames.items() if position >= first}
        while last not in frames:
            position, frame = next(coming)
            frames[position] = np.ascontiguousarray(frame[:height, :width])
        if settings.cut_threshold is not None:
            for position in range(max(first, compared) + 1, last + 1):
                if is_cut(frames[position - 1], frames[position], settings.cut_threshold):
                    cuts.add(position)
                compared = position
        inside = sorted(cut for cut in cuts if first < cut <= last)
        if inside:
            left_out.append((centre, inside[0]))
        else:
            blurred = average.blurred(centre, frames)
            yield Sample.of(run.key(centre), frames[centre], blurred, settings.codec)
    yield RunResult(run.number, tuple(sorted(cuts)), tuple(left_out))
