"""Files of two recordings, one behind the other (``cat a.mp4 b.mp4``), of which FFmpeg reads the first alone.

Of fragmented MP4s it reads a part of the second. It reads both recordings where a format has no index of the whole
file, such as MPEG transport streams.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from pdan_plugin.media.mp4_boxes import second_movie

_ASF_HEADER = b'0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel'
_ASF_OBJECT = 24  # a name of 16 bytes and the size in eight


def second_recording(path: Path, format_name: str) -> int | None:
    """The place in a file at which another recording begins behind the first; None if there is none.

    It looks at QuickTime and MP4, and at Windows Media (ASF).

    Args:
        format_name: FFmpeg's name of the format.

    Raises:
        OSError: The file cannot be read.
    """
    find = second_movie if 'mp4' in format_name.split(',') else _second_asf if format_name == 'asf' else None
    if find is None:
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
