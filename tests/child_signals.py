"""Signals of the processes that tests start."""

import signal


def hear_requests() -> None:
    """In a child before it starts: Ctrl-C, SIGTERM and a closed terminal reach it.

    A test run in a shell's background has SIGINT ignored, one under nohup SIGHUP, and would hand that on.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
