"""Does a run: its training and its test as ``basicsr`` commands, in the folder of the comparison.

The commands write ``OUTPUT/experiments/NAME`` and ``OUTPUT/results/NAME``. Their option files are in
``OUTPUT/options``, their output is in ``OUTPUT/logs/NAME.log``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from comparison.plan import Run
from comparison.records import FOLDER, SCORE_AGAIN, read_record, scores_of_test, write_record
from pdan_plugin.errors import RequestError, WorkError, failing_unwritable, refusing_unwritable
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.models.scores_record import versions
from pdan_plugin.training.history import FILE_NAME

_SHOWN_LINES = 15  # of a failed command's log
_FOLDERS = ('experiments', 'results')
_LOCK, _REMOVED = '.lock', '.removed'


class CommandFailed(WorkError):
    """A command of a run failed; the message ends with the last lines of its log."""


def forget(output: Path, name: str) -> None:
    """Removes a run, its record first. After an interruption the remaining folders are still whole and can be used.

    Raises:
        RequestError: A part of it cannot be removed.
    """
    removed = output / _REMOVED
    with refusing_unwritable(str(output)):
        (output / FOLDER / f'{name}.json').unlink(missing_ok=True)
        (output / 'logs' / f'{name}.log').unlink(missing_ok=True)
        shutil.rmtree(removed, ignore_errors=True)  # left by an earlier interruption
        removed.mkdir()
        for folder in _FOLDERS:
            if (output / folder / name).exists():
                (output / folder / name).rename(removed / folder)
        shutil.rmtree(removed)


@contextmanager
def sole_use(output: Path) -> Iterator[int]:
    """Locks the folder. The commands inherit the descriptor, so one that survives a kill of this process locks it too.

    Raises:
        RequestError: Another process has locked it.
    """
    import fcntl  # not on Windows, where the rest of this package can be imported

    with refusing_unwritable(str(output)):
        output.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors='replace').strip() or 'unknown'
            raise RequestError(
                f'{output}: another comparison, or a training left by a killed one, uses this folder (process '
                f'{holder}); let it finish, stop it (kill {holder}), or give another --output'
            ) from None
        hold_as(descriptor, os.getpid())
        yield descriptor
    finally:
        os.close(descriptor)


def hold_as(lock: int, process: int) -> None:
    """Writes the id of the working process into the lock file."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(process).encode(), 0)


class Runner:
    """Does runs one after the other; continues where an earlier process stopped.

    Args:
        output: The comparison's folder.
        lock: The descriptor from `sole_use`.
        nproc: Workers of each command; None: the command runs as one process.
        say: Takes a line for the user.
    """

    def __init__(self, output: Path, lock: int, *, nproc: int | None, say: Callable[[str], None]) -> None:
        self._output, self._lock, self._nproc, self._say = output, lock, nproc, say
        # plugins of option files are imported from the working folder, as in any other command
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get('PYTHONPATH')])])
        self._environment = {**os.environ, 'PYTHONPATH': path}

    def do(self, run: Run) -> None:
        """Trains, unless that is done, and tests.

        Raises:
            CommandFailed: One of the two failed.
            KeyboardInterrupt: A stop was requested; a training has saved its state.
        """
        record = read_record(self._output, run.name) or {
            'name': run.name,
            'rows': run.rows,
            'seed': run.seed,
            'attempts': [],
            'trained': run.train is None,
            'test': None,
        }
        if not record['trained'] and run.train is not None:
            self._train(run, run.train, record)
        shutil.rmtree(self._output / 'results' / run.name, ignore_errors=True)  # left by an interrupted test
        self._command('test', run, run.test)
        try:
            record['test'] = scores_of_test(self._output / 'results' / run.name)
            record.pop(SCORE_AGAIN, None)
        except RequestError as error:
            raise CommandFailed(f'{run.name}: its test left no scores: {error}') from error
        write_record(self._output, record)

    def _train(self, run: Run, opt: dict[str, Any], record: dict[str, Any]) -> None:
        attempts: list[dict[str, Any]] = record['attempts']
        if attempts and attempts[-1]['seconds'] is None:  # killed with its command: use the history's last change
            history = self._output / 'experiments' / run.name / FILE_NAME
            ended = history.stat().st_mtime if history.is_file() else 0.0
            attempts[-1]['seconds'] = max(0.0, ended - attempts[-1]['unix_time'])
        begun = datetime.now().astimezone().isoformat(timespec='seconds')
        attempt: dict[str, Any] = {'begun': begun, 'unix_time': time.time(), 'seconds': None}
        attempt['versions'] = versions()
        attempts.append(attempt)
        write_record(self._output, record)
        started = time.monotonic()
        try:
            self._command('train', run, opt)
            record['trained'] = True
        finally:
            attempt['seconds'] = time.monotonic() - started
            write_record(self._output, record)

    def _command(self, word: str, run: Run, opt: dict[str, Any]) -> None:
        options = self._output / 'options' / f'{run.name}_{word}.yml'
        log = self._output / 'logs' / f'{run.name}.log'
        with failing_unwritable(options):
            write_whole(options, yaml.safe_dump(opt, sort_keys=False))
        log.parent.mkdir(exist_ok=True)
        command = [sys.executable, '-m', 'pdan_plugin', word, '-opt', str(options.relative_to(self._output))]
        command += ['--auto_resume'] * (word == 'train')
        command += ['--nproc', str(self._nproc)] if self._nproc else []
        self._say(f'  {word}: its progress is in {log}')
        with log.open('ab') as file:
            begun = file.tell()
            # in a separate session: Ctrl-C reaches only this process, which forwards it
            process = subprocess.Popen(
                command, cwd=self._output, env=self._environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[self._lock],
            )  # fmt: skip
            hold_as(self._lock, process.pid)
            try:
                status = _wait(process, self._say)
            finally:
                if process.poll() is not None:
                    hold_as(self._lock, os.getpid())
        if status != 0:
            raise CommandFailed(
                f'{run.name} ({run.path}): basicsr {word} ended with status {status}. The last lines of {log}:\n'
                + '\n'.join(f'    {line}' for line in _last_lines(log, begun))
            )


@contextmanager
def stop_signals_raised() -> Iterator[None]:
    """Inside it, SIGTERM and SIGHUP act like Ctrl-C: a running command saves its state."""

    def requested(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, requested) for number in (signal.SIGTERM, signal.SIGHUP)
                if signal.getsignal(number) != signal.SIG_IGN}  # fmt: skip
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen, say: Callable[[str], None]) -> int:
    """The command's exit status. Stop requests are forwarded: the first one saves, the second one ends it at once."""
    with suppress(KeyboardInterrupt):
        return process.wait()
    is_announced = False
    while True:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(KeyboardInterrupt):
            if not is_announced:
                is_announced = True
                with suppress(OSError):  # the terminal may be closed
                    say('stopping: the command saves its state; stop again to end it at once')
            process.wait()
            break
    raise KeyboardInterrupt


def _last_lines(log: Path, begun: int) -> list[str]:
    with log.open('rb') as file:
        file.seek(begun)
        text = file.read().decode(errors='replace')
    lines = [line.rstrip() for line in text.replace('\r', '\n').split('\n') if line.strip()]
    return lines[-_SHOWN_LINES:]
