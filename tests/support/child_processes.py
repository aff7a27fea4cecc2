"""What the processes that tests start are given."""

import os
import signal
from pathlib import Path

_SUPPORT = Path(__file__).parent
# the package, and what tests import of each other
PYTHON_PATH = os.pathsep.join(map(str, (_SUPPORT.parents[1], _SUPPORT)))


def hear_requests() -> None:
    """In a child before it starts: Ctrl-C, SIGTERM and a closed terminal reach it.

    A test run in a shell's background has SIGINT ignored, one under nohup SIGHUP, and would hand that on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
