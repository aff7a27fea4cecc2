"""The work behind the page: one job at a time, with progress, and stopped on request."""

from __future__ import annotations

import shutil
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from pdan_plugin.app.limits import Limits, Upload, accepted
from pdan_plugin.app.networks import Networks
from pdan_plugin.app.restored_file import RestoredFile, restore_file
from pdan_plugin.errors import RequestError

_POLL = 0.25  # seconds between two looks at a running job
_KEPT = 20  # results on the disk


class JobStopped(Exception):
    """The user has stopped the job."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        text: In words.
        seconds: Since the job began to run.
        share: From 0 to 1; None if not known.
    """

    text: str
    seconds: int = 0
    share: float | None = None


@dataclass
class _Job:
    """A job that waits or runs; its thread writes, the page reads."""

    stopped: threading.Event = field(default_factory=threading.Event)
    done: int = 0
    total: int = 0

    def advance(self, done: int, total: int) -> None:
        if self.stopped.is_set():
            raise JobStopped
        self.done, self.total = done, total


class Work:
    """Restores uploads, one after another, on one thread.

    Args:
        networks: The weights that can be chosen.
        limits: The largest inputs.
        folder: Receives the results, each in a folder of its own. The newest twenty are kept.
    """

    def __init__(self, networks: Networks, limits: Limits, folder: Path) -> None:
        self.networks, self.limits, self._folder = networks, limits, folder
        self._thread = ThreadPoolExecutor(1, 'restoring')
        self._jobs: dict[str, _Job] = {}
        self._count = 0

    def close(self) -> None:
        """Stops all jobs and waits for the running one, which ends after its tile or frame."""
        for job in list(self._jobs.values()):
            job.stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def stop(self, user: str) -> None:
        """Stops the job of a user, if there is one. Its iterator ends with JobStopped."""
        job = self._jobs.get(user)
        if job is not None:
            job.stopped.set()

    def restore(self, path: Path, weights: str, user: str) -> Iterator[Progress | RestoredFile]:
        """Yields the progress of a job, and at last its result.

        Args:
            path: The uploaded file.
            weights: A name of ``networks``.
            user: Who may stop it; one job each.

        Raises:
            RequestError: The file or the weights cannot be used, the user has a job already, or the work failed; the
                message is for the user.
            JobStopped: `stop` was called.
        """
        if user in self._jobs:
            raise RequestError('Your last job is still running; stop it first, or wait')
        upload = accepted(path, self.limits)
        job = self._jobs[user] = _Job()
        try:
            self._count += 1
            folder = self._folder / f'{self._count:06d}'
            future = self._thread.submit(self._run, job, upload, weights, folder)
            yield from _watched(job, future, upload)
            yield self._result(future, path)
        finally:
            job.stopped.set()  # also when the page has gone
            del self._jobs[user]

    def _run(self, job: _Job, upload: Upload, weights: str, folder: Path) -> RestoredFile:
        job.advance(0, 0)
        restorer = self.networks.restorer(weights)
        job.advance(0, 1)
        folder.mkdir(parents=True)
        try:
            result = restore_file(restorer, upload, folder, job.advance)
            job.advance(job.total, job.total)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        for old in sorted(self._folder.iterdir())[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return result

    def _result(self, future: Future[RestoredFile], path: Path) -> RestoredFile:
        try:
            return future.result()
        except (JobStopped, RequestError):
            raise
        except OSError as error:
            raise RequestError(f'{path.name}: {error.strerror or error}') from error
        except (RuntimeError, ValueError, MemoryError, cv2.error, struct.error) as error:
            raise RequestError(f'{path.name}: {error or type(error).__name__}') from error


def _watched(job: _Job, future: Future[RestoredFile], upload: Upload) -> Iterator[Progress]:
    """The progress until the job ends. A stopped job is left to its thread, which the next job waits for."""
    part = 'frame' if upload.is_video else 'tile'
    began: float | None = None
    while not wait([future], timeout=_POLL).done:
        if job.stopped.is_set():
            future.cancel()
            raise JobStopped
        if not future.running():
            yield Progress('Waiting: another job is running')
        elif job.total == 0:
            yield Progress('Loading the network')
        else:
            now = time.monotonic()
            began = now if began is None else began
            seconds = int(now - began)
            if job.total <= 1:  # in one piece
                yield Progress(f'Restoring: {upload.in_words}', seconds)
                continue
            left = (now - began) / job.done * (job.total - job.done) if job.done else 0.0
            more = f', about {left:.0f} s left' if left >= 1 else ''
            yield Progress(f'Restoring: {part} {job.done} of {job.total}{more}', seconds, job.done / job.total)
