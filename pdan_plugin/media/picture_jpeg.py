"""JPEG files: what follows the picture in the same file."""

from __future__ import annotations

import re
import struct

from pdan_plugin.media.picture import PictureFileError

_START = b'\xff\xd8'
_END = 0xD9
# in a scan a marker is FF and neither a stuffed 00, nor a restart (D0 to D7), nor another FF
_MARKER = re.compile(rb'\xff+([^\x00\xd0-\xd7\xff])')
_SIZED = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the headers that state the size of the picture


def what_follows_jpeg(content: bytes, notes: list[str]) -> None:
    """Adds a note if a video or another picture lies behind the picture, as telephones write them.

    Raises:
        PictureFileError: A picture of the same size follows: the file is motion JPEG.
    """
    end, size = _end_and_size(content)
    rest = b'' if end is None else content[end:].lstrip(b'\0')
    if rest.startswith(_START):
        if size is not None and _end_and_size(rest)[1] == size:
            raise PictureFileError(
                'holds further pictures of the same size behind the first, as motion JPEG does; make it a video: '
                'ffmpeg -f mjpeg -i FILE -c copy FILE.mkv'
            )
        notes.append('left out: another picture behind it in the file')
    if b'ftyp' in rest:
        notes.append('left out: the video of a motion photo behind it in the file')


def _end_and_size(content: bytes) -> tuple[int | None, bytes | None]:
    """The place behind the picture with which a file begins, and its height and width as stored; None if unknown."""
    place, size = len(_START), None
    while (found := _MARKER.search(content, place)) is not None:
        kind, place = found[1][0], found.end()
        if kind == _END:
            return place, size
        if place + 2 > len(content):
            break
        if kind in _SIZED:
            size = content[place + 3 : place + 7]
        place += struct.unpack_from('>H', content, place)[0]
    return None, size
