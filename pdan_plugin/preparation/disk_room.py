"""The room on the disk that stores are made on."""

from __future__ import annotations

import shutil
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.sizes import disk_in_words


def free_room(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not exist yet."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def refuse_too_little_room(target: Path, needed: int, codec: str, as_png: int | None = None) -> None:
    """Raises RequestError if TARGET's disk has fewer than ``needed`` bytes free; ``as_png`` are those of PNG stores."""
    free = free_room(target)
    if needed > free:
        about = '' if as_png is None else f' (about {disk_in_words(as_png)})'
        smaller = f' or choose --codec png{about}' if codec == 'bmp' else ''
        raise RequestError(
            f'{target}: the stores need {disk_in_words(needed)}, but only {disk_in_words(free)} are free; make room, '
            f'choose another TARGET{smaller}'
        )
