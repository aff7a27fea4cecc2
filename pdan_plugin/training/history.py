"""The record of a training run: its losses, learning rates and scores, one JSON object a line.

The file holds what the run computed and nothing of when or how fast, so a run that was killed and resumed any number
of times ends with the same bytes as one that never stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import path as osp
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.files.json_files import json_text
from pdan_plugin.files.whole_files import write_whole

FILE_NAME = 'history.jsonl'


@dataclass(frozen=True)
class TrainingLine:
    """What was logged after a training iteration.

    ``losses`` holds every value the model logs, by its name in the log: losses (``l_...``) and others.
    """

    iteration: int
    epoch: int
    learning_rates: tuple[float, ...]
    losses: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationLine:
    """The scores of one data set after a training iteration."""

    iteration: int
    dataset: str
    metrics: dict[str, float] = field(default_factory=dict)


Line = TrainingLine | ValidationLine


class History:
    """The record of one run, written line by line.

    A line is there, whole, when the call that adds it returns; a process that is killed takes none with it. What is
    there through a power cut is what came before the last :meth:`sync` or validation.

    Numbers are written so that they read back as the same float. A value that is not finite is written as the string
    "NaN", "Infinity" or "-Infinity", since JSON has no number for it.

    Args:
        path: The file, made at the first line. None: nothing is kept or written, as on every rank but the first.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else os.fspath(path)
        self._validations: dict[int, dict[str, dict[str, float]]] = {}

    def begin(self, iteration: int) -> None:
        """Brings the record back to the state saved at an iteration; 0 for a run from the start.

        What is later goes, and a last line that a crash cut short. The validations made at the iteration stay: they
        are not due again. The file is replaced whole or left as it is.

        Raises:
            RequestError: A line that is not the last cannot be read.
            OSError: The file could not be written.
        """
        self._validations = {}
        if self.path is None or not osp.exists(self.path):
            return
        with open(self.path, 'rb') as file:
            content = file.read()
        kept = []
        for text, line in _read_lines(content, self.path):
            if line.iteration > iteration:
                continue
            kept.append(text + b'\n')
            if isinstance(line, ValidationLine):
                self._validations.setdefault(line.iteration, {})[line.dataset] = line.metrics
        if b''.join(kept) != content:
            try:
                write_whole(self.path, b''.join(kept), durable=True)
            except OSError as error:
                raise _cannot_write(self.path, error) from error

    def add_training(
        self, iteration: int, epoch: int, learning_rates: Iterable[float], losses: Mapping[str, float]
    ) -> None:
        """Appends what was logged after a training iteration.

        Raises:
            OSError: The line could not be written; the file holds whole lines still.
        """
        self._append(
            {
                'iter': int(iteration),
                'epoch': int(epoch),
                'lr': [float(rate) for rate in learning_rates],
                'losses': {name: float(value) for name, value in losses.items()},
            }
        )

    def add_validation(self, iteration: int, dataset: str, metrics: Mapping[str, float]) -> None:
        """Appends the scores of a data set, and sees them onto the disk; one validation is written once.

        Raises:
            OSError: The line could not be written; the file holds whole lines still.
        """
        if self.path is None or dataset in self._validations.get(iteration, {}):
            return
        scores = {name: float(value) for name, value in metrics.items()}
        line = {'iter': int(iteration), 'dataset': dataset}
        self._append({**line, 'metrics': scores})
        self._validations.setdefault(iteration, {})[dataset] = scores
        self.sync()

    def validations(self, iteration: int) -> dict[str, dict[str, float]]:
        """The scores of the validations made at an iteration, by data set.

        Only the rank that writes knows of any: the others must be told by it.
        """
        return dict(self._validations.get(iteration, {}))

    def sync(self) -> None:
        """Sees what was written onto the disk, as is needed before a training state that must not be ahead of it.

        Raises:
            OSError: The disk did not take it.
        """
        if self.path is None or not osp.exists(self.path):
            return
        try:
            with open(self.path, 'ab') as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _append(self, content: dict[str, Any]) -> None:
        if self.path is None:
            return
        line = json_text(content, indent=None).encode()
        try:
            # opened anew for each line: nothing to close, and another run of this process may write it next
            with open(self.path, 'ab', buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file.fileno(), line)
                except OSError:
                    with contextlib.suppress(OSError):  # what is left then goes at the next `begin`
                        file.truncate(before)
                    raise
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def read_history(path: str | os.PathLike[str]) -> list[Line]:
    """The lines of a history file in their order, without a last one that a crash cut short.

    Raises:
        RequestError: Another line cannot be read.
        OSError: The file is not there or not readable.
    """
    with open(path, 'rb') as file:
        return [line for _, line in _read_lines(file.read(), os.fspath(path))]


_histories: dict[str, History] = {}


def run_history(opt: Mapping[str, Any]) -> History:
    """The record of the run that these options, or any copy of them, are of.

    It lies in ``path: experiments_root``; at the first call in a run it is brought back to the iteration that the run
    goes on from (``resume_iter``, else 0). Only rank 0's writes.

    Raises:
        RequestError, OSError: As :meth:`History.begin`.
    """
    folder = opt['path']['experiments_root']
    if folder not in _histories:
        history = History(osp.join(folder, FILE_NAME) if opt['rank'] == 0 else None)
        history.begin(opt.get('resume_iter') or 0)
        _histories[folder] = history
    return _histories[folder]


def forget_runs() -> None:
    """Makes :func:`run_history` begin anew, as is needed before another run in one process."""
    _histories.clear()


def _read_lines(content: bytes, path: str) -> list[tuple[bytes, Line]]:
    """Each line with its own bytes; the last one may lack its line end, or be unreadable and then is left out."""
    texts = content.split(b'\n')
    if texts[-1] == b'':
        texts.pop()
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            lines.append((text, _parse(text)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(texts):
                break
            raise RequestError(
                f'{path}: line {number} is not a line of a training history: {text[:60].decode(errors="replace")!r}; '
                'take that line out, or move the file away to begin a new record'
            ) from error
    return lines


def _parse(text: bytes) -> Line:
    content = json.loads(text)
    iteration = int(content['iter'])
    if 'dataset' in content:
        metrics = {name: float(value) for name, value in content['metrics'].items()}
        return ValidationLine(iteration, content['dataset'], metrics)
    return TrainingLine(
        iteration,
        int(content['epoch']),
        tuple(float(rate) for rate in content['lr']),
        {name: float(value) for name, value in content['losses'].items()},
    )


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:  # a disk that is about to be full takes a part
        rest = rest[os.write(descriptor, rest) :]


def _cannot_write(path: str, error: OSError) -> OSError:
    return OSError(error.errno, f'cannot write the training history: {error.strerror or error}', path)
