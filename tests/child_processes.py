"""What the processes that tests start are given."""

import os
import signal
from pathlib import Path

_TESTS = Path(__file__).parent
PYTHON_PATH = os.pathsep.join(map(str, (_TESTS.parent, _TESTS)))  # the package, and what tests import of each other


def hear_requests() -> None:
    """In a child before it starts: Ctrl-C, SIGTERM and a closed terminal reach it.

    A test run in a shell's background has SIGINT ignored, one under nohup SIGHUP, and would hand that on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
