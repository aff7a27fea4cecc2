"""Files of two recordings, one behind the other (``cat a.mp4 b.mp4``), of which FFmpeg reads the first alone.

Of fragmented MP4s it reads a part of the second; of NUT it takes the second head for a frame and loses others. It reads
both recordings where a format has no index of the whole file, such as MPEG transport streams.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pdan_plugin.media.mp4_boxes import second_movie

_ASF_HEADER = b'0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel'
_ASF_OBJECT = 24  # a name of 16 bytes and the size in eight
# what stands at the beginning of a file of the format, and nowhere else; by FFmpeg's name of the format
_BEGINNINGS = {
    'nut': b'nut/multimedia container\0NMzV\x1f_\x04\xad',  # and the code of the main head, which may come again alone
    'wtv': b'\xb7\xd8\0 7I\xda\x11\xa6N\0\x07\xe9^\xad\x8d',
}
_BLOCK = 1 << 20


def second_recording(path: Path, format_name: str) -> int | None:
    """The place in a file at which another recording begins behind the first; None if there is none.

    It looks at QuickTime and MP4, at Windows Media (ASF), and at NUT and Windows' recordings of television (WTV), which
    it reads to their end.

    Args:
        format_name: FFmpeg's name of the format.

    Raises:
        OSError: The file cannot be read.
    """
    find: Callable[[BinaryIO], int | None]
    if 'mp4' in format_name.split(','):
        find = second_movie
    elif format_name == 'asf':
        find = _second_asf
    elif format_name in _BEGINNINGS:
        find = partial(_second_beginning, beginning=_BEGINNINGS[format_name])
    else:
        return None
    with path.open('rb') as file:
        return find(file)


def _second_asf(file: BinaryIO) -> int | None:
    place = 0
    while len(head := file.read(_ASF_OBJECT)) == _ASF_OBJECT:
        if place and head.startswith(_ASF_HEADER):
            return place
        size = int.from_bytes(head[16:], 'little')
        if size < _ASF_OBJECT:  # 0 while it is recorded: it goes to the end
            return None
        place += size
        file.seek(place)
    return None


def _second_beginning(file: BinaryIO, beginning: bytes) -> int | None:
    place, seen = 1, b''  # the place of `seen` in the file; the first recording begins at 0
    file.seek(place)
    while block := file.read(_BLOCK):
        seen += block
        found = seen.find(beginning)
        if found >= 0:
            return place + found
        kept = min(len(seen), len(beginning) - 1)
        place, seen = place + len(seen) - kept, seen[-kept:]
    return None
