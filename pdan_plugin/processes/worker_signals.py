"""Data loader workers that end by the signal of their own parent, and by no other.

slurm, torchrun and service managers send SIGTERM to every process of a run, a terminal sends Ctrl-C to them all. The
training process then has an iteration to finish and a state to save, which it cannot when a worker dies under it:
torch's data loader raises the worker's death as an error wherever the training is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess as _Process
else:
    _Process = object

# Telling who sent a signal takes sigwaitinfo, which macOS lacks: there, workers die of the group's signals.
IS_SUPPORTED = hasattr(signal, 'sigwaitinfo')
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class FollowsItsParent(_Process):
    """A mixin for multiprocessing's process classes: SIGINT is ignored, SIGTERM counts from the parent only.

    The parent sends it through `terminate()` and when it exits. When the parent is killed, torch's worker loop notices
    within seconds by itself. What such a process starts in turn has both signals blocked.
    """

    def start(self) -> None:
        with _blocked():  # what is blocked here is blocked there, from its first thread on
            super().start()

    def run(self) -> None:
        signal.set_wakeup_fd(-1)  # a forked child must not write into its parent's
        if IS_SUPPORTED:
            signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            threading.Thread(target=_end_with_parent, daemon=True).start()
        super().run()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if parent is None or received.si_pid == parent.pid:
            os._exit(0)  # any other status counts as a failure with torch


@contextmanager
def _blocked() -> Iterator[None]:
    if not IS_SUPPORTED:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
