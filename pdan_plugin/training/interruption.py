"""A request to stop a training run: SIGTERM, Ctrl-C, or a launcher's word; heard at once, answered between iterations.

The first request lets the iteration finish and its state be saved; a second one, `ONE_REQUEST_SECONDS` later, ends the
process at once. Until there is something to save, the first ends it too.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

# The environment variable by which a launcher on this machine names its folder. It holds the folder's lock while it
# lives, and asks for a stop by a file in it.
LAUNCHER_FOLDER = 'PDAN_PLUGIN_LAUNCHER_FOLDER'
STOP_FILE = 'stop'

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# a terminal's Ctrl-C reaches a process twice, from the terminal and from the launcher, and is one request
ONE_REQUEST_SECONDS = 2.0
FIRST_ANSWER = 'saving at the end of this iteration; again to stop at once'


class RunStopped(SystemExit):
    """A training run ended because it was asked to; its exit status is 130 (Ctrl-C) or 143 (SIGTERM).

    It is no `Exception`, as SystemExit is none, so that nothing takes it for a failure on its way out.

    Attributes:
        signal: Number of the signal.
        iteration: The last iteration that was trained; None where this process trained none.
        state: Path of the training state that holds it; None where nothing was saved.
        by_launcher: Whether the launcher that started this process asked, and has its own exit status for it.
    """

    def __init__(
        self, number: int, iteration: int | None, state: str | None = None, *, by_launcher: bool = False
    ) -> None:
        super().__init__(128 + number)
        self.signal, self.iteration, self.state, self.by_launcher = number, iteration, state, by_launcher

    def __str__(self) -> str:
        if self.iteration is None:
            return 'stopped before an iteration was trained; there is nothing to save'
        return f'stopped; the state after iteration {self.iteration} is {self.state}'


class _Listener:
    """Hears signals in a thread of its own, since Python's handlers wait for the main thread to leave C code."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.has_begun = False
        self._has_raised = threading.Event()
        self._heard_at = 0.0
        self._reading, self._writing = socket.socketpair()
        self._writing.setblocking(False)
        self._thread = threading.Thread(target=self._listen, daemon=True, name='pdan_plugin signals')
        self._previous: dict[int, object] = {}

    def start(self) -> None:
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup, or a shell's background job
                self._previous[number] = signal.signal(number, self._handle)
        self._thread.start()
        # the C part of Python writes the number here whatever the main thread does
        self._previous_wakeup = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    def stop(self) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # pyright: ignore[reportArgumentType]
        self._writing.send(b'\0')  # closing would not do: forked workers hold copies
        self._thread.join()
        self._writing.close()
        self._reading.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """In the main thread, between two of its steps."""
        self.number = self.number or number
        if not self.has_begun and not self._has_raised.is_set():
            self._has_raised.set()
            raise RunStopped(number, None)

    def _listen(self) -> None:
        numbers = b''
        while 0 not in numbers:  # which may come in one piece with a last request
            numbers = self._reading.recv(64)
            for number in self._previous.keys() & set(numbers):
                self._hear(number)

    def _hear(self, number: int) -> None:
        now = time.time()
        first = min([at for at in (self._heard_at, _launcher_asked_at()) if at], default=None)
        if first is not None and now - first > ONE_REQUEST_SECONDS:
            _say('stopped at once; what was trained since the last saved state is lost')
            os._exit(128 + number)
        self.number = self.number or number
        self._heard_at = self._heard_at or now
        if self.has_begun:
            if first is None:
                _say(FIRST_ANSWER)
        elif not self._has_raised.wait(ONE_REQUEST_SECONDS) and not self.has_begun:
            os._exit(128 + number)  # the main thread is in C code, perhaps waiting for ranks that never come


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGINT are requests; before `training_begins` they raise `RunStopped` at once.

    Signals that were ignored stay so. Outside of the main thread, which alone may receive signals, it hears the
    launcher only.
    """
    global _listener
    outer, _listener = _listener, _Listener()
    hears_signals = outer is None and threading.current_thread() is threading.main_thread()
    if hears_signals:
        _listener.start()
    try:
        yield
    finally:
        if hears_signals:
            _listener.stop()
        _listener = outer


def training_begins() -> None:
    """From now on there is something to save: a request waits for the end of the iteration."""
    if _listener is not None:
        _listener.has_begun = True


def stop_requested() -> bool:
    """Whether this process was asked to stop its training run; another rank may hear of it earlier or later."""
    return _listener is not None and (_listener.number is not None or _launcher_asked())


def run_stopped(iteration: int | None, state: str | None) -> RunStopped:
    """The exception to end a run with that was asked to stop on this rank or on another."""
    number = (_listener.number if _listener is not None else None) or signal.SIGTERM
    return RunStopped(number, iteration, state, by_launcher=_launcher_asked())


@contextmanager
def launcher_folder() -> Iterator[Path]:
    """A launcher's folder, for as long as the launcher lives: its lock goes with the process, however it ends.

    The lock also keeps those away who clean up temporary folders in the weeks that a run may take.
    """
    with tempfile.TemporaryDirectory(prefix='basicsr_') as folder, _opened(folder) as descriptor:
        with suppress(ImportError, OSError):  # without locks here a launcher counts as alive
            _lock(descriptor, exclusive=True)
        yield Path(folder)


def ask_to_stop(folder: Path) -> None:
    """The launcher's word to the processes that know its folder."""
    folder.mkdir(exist_ok=True)
    (folder / STOP_FILE).touch()


def _launcher_asked() -> bool:
    """Also by its end: killed, it can ask no more, and nobody else looks after the run."""
    folder = os.environ.get(LAUNCHER_FOLDER)
    return bool(folder) and (os.path.exists(os.path.join(folder, STOP_FILE)) or _is_gone(folder))


def _launcher_asked_at() -> float | None:
    """Seconds since the epoch."""
    try:
        return os.stat(os.path.join(os.environ.get(LAUNCHER_FOLDER, ''), STOP_FILE)).st_mtime
    except OSError:
        return None


def _is_gone(folder: str) -> bool:
    """Whether no launcher holds the folder; one that cannot be asked about is taken to be there."""
    try:
        with _opened(folder) as descriptor:
            _lock(descriptor, exclusive=False)
    except (ImportError, OSError):
        return False
    return True


@contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, exclusive: bool) -> None:
    """Until the descriptor is closed; BlockingIOError where another process holds it."""
    import fcntl  # not on Windows

    fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH))


def _say(text: str) -> None:
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print(f'\n{text}', file=sys.stderr, flush=True)
