"""Makes samples from runs of windows, in this process or in several.

Processes, not threads: interpolation holds Python's lock for part of its time, and one thread per process makes the
same bytes on every machine. Workers send samples one at a time, so that a kill loses little. A worker waits when the
pipe is full.
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
    """A run that could not be finished, and the fault of its source."""

    run: Run
    message: str


@dataclass(frozen=True)
class Work:
    """A run, and the keys of its samples that are already in the stores."""

    run: Run
    done: frozenset[str]


Outcome = Sample | RunResult | Fault


def outcomes(
    works: Sequence[Work], settings: Settings, response: Response, workers: int
) -> Generator[Outcome, None, None]:
    """Yields the samples of all runs as they are made; after a run's last sample, its result or fault.

    Raises:
        WorkError: A worker ended or failed, and not because of a source.
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
                        f'a worker process ended unexpectedly (exit code {process.exitcode}); if memory ran out, use '
                        'fewer --workers. Finished frames are kept: run the same command again to continue'
                    ) from error
                if isinstance(outcome, WorkError):
                    raise outcome
                yield outcome
    finally:
        for process in processes:  # all results have been received; a worker may take seconds to end by itself
            process.kill()
            process.join()
        for connection in busy:
            connection.close()


def _serve(connection: Connection, settings: Settings, response: Response) -> None:
    """Main function of a worker process; it ends when its parent closes the connection or ends."""
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
    """Yields the samples of a run that the stores lack, then its result.

    After a kill, the missing windows are enough to find all the run's cuts: a stored window touches no cut, and every
    window that touches a cut finds it.
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
        for position in range(max(first, compared) + 1, last + 1):
            if position in run.clip.breaks or (
                settings.cut_threshold is not None
                and is_cut(frames[position - 1], frames[position], settings.cut_threshold)
            ):
                cuts.add(position)
            compared = position
        inside = sorted(cut for cut in cuts if first < cut <= last)
        if inside:
            left_out.append((centre, inside[0]))
        else:
            blurred = average.blurred(centre, frames)
            yield Sample.of(run.key(centre), frames[centre], blurred, settings.codec)
    yield RunResult(run.number, tuple(sorted(cuts)), tuple(left_out))
