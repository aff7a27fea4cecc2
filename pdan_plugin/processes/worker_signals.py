"""Data loader workers that end only by a signal of their parent.

slurm, torchrun and service managers send SIGTERM to every process of a run, and a terminal sends Ctrl-C to all of them.
The training process must then finish its iteration and save its state. If a worker died, torch's data loader would
raise an error in the training process before the save.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess as _Process
else:
    _Process = object

# Only sigwaitinfo shows the sender of a signal. macOS lacks it, so there workers die of signals to the group.
IS_SUPPORTED = hasattr(signal, 'sigwaitinfo')
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class FollowsItsParent(_Process):
    """A mixin for multiprocessing's process classes: SIGINT is ignored, and SIGTERM is obeyed from the parent only.

    The parent sends SIGTERM by `terminate()` and at exit. If the parent is killed, torch's worker loop notices it
    within seconds. Processes that such a worker starts have both signals blocked.
    """

    def start(self) -> None:
        with _blocked():  # the child inherits the blocked signals
            super().start()

    def run(self) -> None:
        signal.set_wakeup_fd(-1)  # a forked child must not write to its parent's wakeup socket
        if IS_SUPPORTED:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if parent is None or received.si_pid == parent.pid:
            os._exit(0)  # torch treats any other status as a failure


@contextmanager
def _blocked() -> Generator[None]:
    if not IS_SUPPORTED:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
