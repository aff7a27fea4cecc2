"""The record of a training run: its losses, learning rates and scores, one JSON object per line.

The file holds only computed values, no times or speeds. A run that was killed and resumed any number of times ends with
the same bytes as one that never stopped.
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

    When a method that adds a line returns, the whole line is in the file; killing the process does not lose it. A power
    cut may lose the lines after the last :meth:`sync` or validation.

    Numbers read back as the same float. A value that is not finite is written as the string "NaN", "Infinity" or
    "-Infinity", because JSON has no number for it.

    Args:
        path: The file, created with the first line. None, as on all ranks but rank 0: nothing is kept or written.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else os.fspath(path)
        self._validations: dict[int, dict[str, dict[str, float]]] = {}

    def begin(self, iteration: int) -> None:
        """Goes back to the state saved at an iteration; 0 for a run from the start.

        Removes later lines, and a last line that a crash truncated. Validations of the iteration are kept, so they are
        not computed again. The file is replaced whole or left unchanged.

        Raises:
            RequestError: A line other than the last cannot be read.
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
            OSError: The line could not be written; the file still holds whole lines only.
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
        """Appends the scores of a data set and syncs them to disk. Writes each validation only once.

        Raises:
            OSError: The line could not be written; the file still holds whole lines only.
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

        Only the rank that writes has them; it must send them to the others.
        """
        return dict(self._validations.get(iteration, {}))

    def sync(self) -> None:
        """Syncs the file to disk. Call it before saving a training state, which must not be newer than the history.

        Raises:
            OSError: The sync failed.
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
            # opened for each line: no file stays open, and another run in this process may write to it next
            with open(self.path, 'ab', buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file.fileno(), line)
                except OSError:
                    with contextlib.suppress(OSError):  # otherwise the next `begin` removes the partial line
                        file.truncate(before)
                    raise
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def read_history(path: str | os.PathLike[str]) -> list[Line]:
    """The lines of a history file in order, without a last line that a crash truncated.

    Raises:
        RequestError: A line other than the last cannot be read.
        OSError: The file does not exist or is not readable.
    """
    with open(path, 'rb') as file:
        return [line for _, line in _read_lines(file.read(), os.fspath(path))]


_histories: dict[str, History] = {}


def run_history(opt: Mapping[str, Any]) -> History:
    """The record of the run with these options (or a copy of them).

    The file is in ``path: experiments_root``. The first call in a run goes back to the iteration from which the run
    resumes (``resume_iter``, else 0). Only rank 0 writes.

    Raises:
        RequestError, OSError: See :meth:`History.begin`.
    """
    folder = opt['path']['experiments_root']
    if folder not in _histories:
        history = History(osp.join(folder, FILE_NAME) if opt['rank'] == 0 else None)
        history.begin(opt.get('resume_iter') or 0)
        _histories[folder] = history
    return _histories[folder]


def forget_runs() -> None:
    """Makes :func:`run_history` start over. Call it before another run in the same process."""
    _histories.clear()


def _read_lines(content: bytes, path: str) -> list[tuple[bytes, Line]]:
    """Each line with its bytes. The last one may lack its line end; if it cannot be read, it is left out."""
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
                'remove that line, or move the file away to start a new history'
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
    while rest:  # an almost full disk may accept only a part
        rest = rest[os.write(descriptor, rest) :]


def _cannot_write(path: str, error: OSError) -> OSError:
    return OSError(error.errno, f'cannot write the training history: {error.strerror or error}', path)
