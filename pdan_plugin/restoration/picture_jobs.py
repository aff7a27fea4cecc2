"""Restores picture files: the next ones are read, and the last ones written, while the network works."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.algorithm_search import mostly_one_size, searching_algorithms
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.machine.memory import free_memory
from pdan_plugin.machine.overlap import Limits, Stages, Stopped, overlapped
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.media.picture_files import Picture, PictureFileError, read_picture
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.picture_writing import what_ending_cannot_hold, what_ending_leaves_out, write_picture
from pdan_plugin.media.resampling import resampled_picture
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.transparency import colour_to_restore, with_layers
from pdan_plugin.restoration.jobs import Job
from pdan_plugin.restoration.result_checks import size_of_result

_READERS, _MOST_WRITERS = 2, 8
_SHARE, _MOST_BYTES = 8, 2**31  # pictures under way take at most this part of the free memory
_BYTES_OF_A_VALUE = 6  # of a result: float32 and rounded, or 16 bits

# a picture with the colours for the network, and one with what waits for its restored colours
_Decoded = tuple[Picture, NDArray[Any]]
_Begun = tuple[Picture, Callable[[], NDArray[Any]]]


@dataclass
class PictureJobs:
    """Picture files to restore.

    Attributes:
        restorer: What restores them.
        results: Size and format of the results.
        on_tile: Called with (job, tiles done, tiles in total).
        most_bytes: What pictures under way may take, without the work of the network; one picture is always possible.
        on_note: Called with (job, message for the user about what was restored).
    """

    restorer: PictureRestorer
    results: ResultSettings = field(default_factory=ResultSettings)
    on_tile: Callable[[Job, int, int], None] = lambda job, done, total: None
    most_bytes: int | None = None
    on_note: Callable[[Job, str], None] = lambda job, note: None
    _stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: Sequence[Job]) -> Generator[tuple[Job, Exception | None]]:
        """Yields each job in order when its result is written, or with the error that prevented it.

        The caller closes the generator; no half-written result is left.
        """
        most = self.most_bytes
        if most is None:
            most = min(_MOST_BYTES, free_memory(torch.device('cpu')) // _SHARE)
        writers = max(2, min(_MOST_WRITERS, usable_cores()))
        stages = Stages(self._read, self._begin, self._write, lambda job: self._size(job, most), self._may_join)
        with searching_algorithms(mostly_one_size(getattr(job.header, 'size', job.source) for job in jobs)):
            yield from overlapped(jobs, stages, Limits(_READERS, writers, most), self._stopping)

    def _size(self, job: Job, most: int) -> int:
        size = getattr(job.header, 'size', None)
        if size is None:
            return most
        height, width = size
        return height * width * 4 * (2 + _BYTES_OF_A_VALUE * self.restorer.scale**2)

    def _read(self, job: Job) -> _Decoded:
        picture = picture_to_restore(job, self.results, self.restorer.scale)
        _refuse_too_large_result(picture, self.restorer.scale, self._result_size(picture))
        return picture, colour_to_restore(picture)

    def _result_size(self, picture: Picture) -> tuple[int, int]:
        height, width = picture.colour.shape[:2]
        return size_of_result(self.results, (height, width), self.restorer.scale)

    def _may_join(self, first: _Decoded, other: _Decoded, count: int) -> bool:
        """Whether the network may get another picture in one batch with the first, the ``count``-th of it."""
        is_alike = first[1].shape == other[1].shape and first[1].dtype == other[1].dtype
        height, width = first[1].shape[:2]
        return is_alike and count <= self.restorer.pictures_at_once(height, width)

    def _begin(self, jobs: Sequence[Job], decoded: Sequence[_Decoded]) -> list[_Begun]:
        for job, (picture, _) in zip(jobs, decoded, strict=True):
            size = self.results.size
            height, width = picture.colour.shape[:2]
            about_size = [] if size is None else size.notes(height, width, self.restorer.scale)
            left_out = what_ending_leaves_out(picture, job.target.suffix)
            for note in (*picture.notes, left_out, *about_size):
                if note:
                    self.on_note(job, note)
        begun = self.restorer.begin_pictures([colour for _, colour in decoded], partial(self.on_tile, jobs[0]))
        return [(replace(picture, notes=()), result) for (picture, _), result in zip(decoded, begun, strict=True)]

    def _write(self, job: Job, begun: _Begun) -> None:
        picture, restored = begun
        self._check()
        result = resampled_picture(with_layers(picture, restored(), self.restorer.scale), self._result_size(picture))
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(job.target, result, self.results.picture, self._check)

    def _check(self) -> None:
        if self._stopping.is_set():
            raise Stopped


class UnfitFormatError(PictureFileError):
    """The file format of a result cannot hold it."""


def picture_to_restore(job: Job, results: ResultSettings, scale: int) -> Picture:
    """The picture of a job.

    Raises:
        UnfitFormatError: The target's file format cannot hold the result.
        PictureFileError, OSError: See :func:`~pdan_plugin.media.picture_files.read_picture`.
    """
    picture = job.picture or read_picture(job.source)
    height, width = picture.colour.shape[:2]
    size = size_of_result(results, (height, width), scale)
    reason = what_ending_cannot_hold(picture, job.target.suffix, size)
    if reason is not None:
        raise UnfitFormatError(reason)
    return picture


def decoded_for_its_ending(job: Job, results: ResultSettings, scale: int) -> Job:
    """Decodes the picture of a job, to check before the network runs that the target's file format can hold the result.

    Raises:
        RequestError: It cannot; the message names the target.
    """
    if job.kind != 'picture':
        return job
    try:
        return replace(job, picture=picture_to_restore(job, results, scale))
    except UnfitFormatError as error:
        raise RequestError(f'{job.target}: {error}.') from error
    except (OSError, PictureFileError):
        return job  # reported when it is restored


def _refuse_too_large_result(picture: Picture, scale: int, size: tuple[int, int]) -> None:
    """Raises a PictureFileError if the result of a picture does not fit into the free memory of the machine.

    If the result is resampled, memory holds it beside the network's output.
    """
    height, width = (side * scale for side in picture.colour.shape[:2])
    pixels = height * width + (0 if size == (height, width) else math.prod(size))
    height, width = size
    layers = [picture.colour, *([] if picture.alpha is None else [picture.alpha])]
    of_a_pixel = sum(layer.nbytes for layer in layers) // math.prod(picture.colour.shape[:2])
    needed, free = of_a_pixel * pixels, free_memory(torch.device('cpu'))
    if needed > free:
        raise PictureFileError(
            f'its result of {width}x{height} pixels needs {memory_in_words(needed)} of memory, and '
            f'{memory_in_words(free)} are free; cut it into parts'
        )
