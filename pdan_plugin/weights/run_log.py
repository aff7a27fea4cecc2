"""A line in the log of a run, or on stderr where the toolbox, which keeps the log, is not imported."""

from __future__ import annotations

import sys


def log_line(text: str) -> None:
    """Logs a line by the toolbox's logger; prints it on stderr if nothing has imported the toolbox yet."""
    if 'basicsr.utils' in sys.modules:
        from basicsr.utils import get_root_logger

        get_root_logger().info(text)
    else:
        print(text, file=sys.stderr, flush=True)
