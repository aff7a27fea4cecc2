"""What a process group leaves running in its process; imported by the processes that tests start."""

import threading
import time
from pathlib import Path


def count() -> int:
    """Threads of gloo in this process, 0 where there is no /proc."""
    return sum('gloo' in _name(thread) for thread in Path('/proc/self/task').glob('*'))


def are_unnamed() -> bool:
    """Whether libraries run threads here without names, as torch 2.8 runs gloo's, which `count` cannot find then."""
    others = {thread.native_id for thread in threading.enumerate()}
    own = _name(Path('/proc/self'))
    threads = Path('/proc/self/task').glob('*')
    return any(_name(thread) == own for thread in threads if int(thread.name) not in others)


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
