"""What a process group leaves running in its process; imported by the processes that tests start."""

import time
from pathlib import Path


def count() -> int:
    """Threads of gloo in this process, 0 where there is no /proc."""
    return sum('gloo' in _name(thread) for thread in Path('/proc/self/task').glob('*'))


def left_at_the_end(seconds: float = 10) -> int:
    """Threads of gloo that do not end by themselves; a joined thread stays in /proc for a moment."""
    deadline = time.monotonic() + seconds
    while (left := count()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _name(thread: Path) -> str:
    try:
        return (thread / 'comm').read_text()
    except OSError:  # ended since it was listed, before or while it was read
        return ''
