"""Requests to stop a training run: SIGTERM, Ctrl-C, or a launcher's stop file. The run stops between iterations.

After the first request the run finishes its iteration and saves its state. A second request, more than
`ONE_REQUEST_SECONDS` later, ends the process at once. Before training begins, the first request ends the process.
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

# Environment variable with the folder of the launcher on this machine. The launcher locks the folder while it runs, and
# creates a file in it to request a stop.
LAUNCHER_FOLDER = 'PDAN_PLUGIN_LAUNCHER_FOLDER'
STOP_FILE = 'stop'

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# one Ctrl-C reaches a process twice: from the terminal and from the launcher
ONE_REQUEST_SECONDS = 2.0
FIRST_ANSWER = 'saving at the end of this iteration; again to stop at once'


class RunStopped(SystemExit):
    """A training run ended on request. Its exit status is 130 (Ctrl-C) or 143 (SIGTERM).

    Like SystemExit it is not an `Exception`, so `except Exception` does not handle it as a failure.

    Attributes:
        signal: Number of the signal.
        iteration: The last trained iteration; None if this process trained none.
        state: Path of the training state of that iteration; None if nothing was saved.
        by_launcher: Whether the request came from the launcher of this process, which sets its own exit status.
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
    """Receives signals in its own thread, because Python's handlers run only after the main thread leaves C code."""

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
        # Python's C handler writes the signal number here even if the main thread is in C code
        self._previous_wakeup = signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    def stop(self) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # pyright: ignore[reportArgumentType]
        self._writing.send(b'\0')  # closing is not enough: forked workers hold copies of the socket
        self._thread.join()
        self._writing.close()
        self._reading.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Runs in the main thread, between two bytecode instructions."""
        self.number = self.number or number
        if not self.has_begun and not self._has_raised.is_set():
            self._has_raised.set()
            raise RunStopped(number, None)

    def _listen(self) -> None:
        numbers = b''
        while 0 not in numbers:  # the 0 of `stop` may arrive together with a last signal
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
            os._exit(128 + number)  # the main thread is stuck in C code, for example waiting for other ranks


_listener: _Listener | None = None


@contextmanager
def listening() -> Iterator[None]:
    """Inside the block, SIGTERM and SIGINT are stop requests. Before `training_begins` they raise `RunStopped`.

    Ignored signals stay ignored. Outside of the main thread, Python cannot handle signals; then only the launcher's
    requests count.
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
    """From now on a request takes effect at the end of the iteration, when the state can be saved."""
    if _listener is not None:
        _listener.has_begun = True


def stop_requested() -> bool:
    """Whether this process was asked to stop its training run. Other ranks may be asked earlier or later."""
    return _listener is not None and (_listener.number is not None or _launcher_asked())


def run_stopped(iteration: int | None, state: str | None) -> RunStopped:
    """The exception that ends a run after a stop request on any rank."""
    number = (_listener.number if _listener is not None else None) or signal.SIGTERM
    return RunStopped(number, iteration, state, by_launcher=_launcher_asked())


@contextmanager
def launcher_folder() -> Iterator[Path]:
    """A locked folder for the launcher. The system releases the lock when the process ends, however it ends.

    The lock also stops cleaners of temporary folders from deleting it during a run of several weeks.
    """
    with tempfile.TemporaryDirectory(prefix='basicsr_') as folder, _opened(folder) as descriptor:
        with suppress(ImportError, OSError):  # on systems without locks a launcher always counts as alive
            _lock(descriptor, exclusive=True)
        yield Path(folder)


def ask_to_stop(folder: Path) -> None:
    """Requests a stop from the processes of the launcher with this folder."""
    folder.mkdir(exist_ok=True)
    (folder / STOP_FILE).touch()


def _launcher_asked() -> bool:
    """Whether the launcher requested a stop or has ended; a killed launcher can no longer request one."""
    folder = os.environ.get(LAUNCHER_FOLDER)
    return bool(folder) and (os.path.exists(os.path.join(folder, STOP_FILE)) or _is_gone(folder))


def _launcher_asked_at() -> float | None:
    """Time of the launcher's request, in seconds since the epoch."""
    try:
        return os.stat(os.path.join(os.environ.get(LAUNCHER_FOLDER, ''), STOP_FILE)).st_mtime
    except OSError:
        return None


def _is_gone(folder: str) -> bool:
    """Whether no launcher holds the folder's lock; False if the lock cannot be tested."""
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
    """Locks until the descriptor is closed. Raises BlockingIOError if another process holds the lock."""
    import fcntl  # not on Windows

    fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH))


def _say(text: str) -> None:
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) == '0':
        print(f'\n{text}', file=sys.stderr, flush=True)
