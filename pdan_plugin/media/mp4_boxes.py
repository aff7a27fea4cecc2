"""The boxes of which a QuickTime or MP4 file consists (ISO/IEC 14496-12, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_LONG = 1  # instead of a size: it follows the name, in eight bytes
_HEADER = 8


def lacks_index(file: BinaryIO) -> bool:
    """Whether a file begins like MP4 but has no index of its pictures, because its recording or copy broke off."""
    kinds = list(_kinds(file))
    return bool(kinds) and kinds[0] == b'ftyp' and b'moov' not in kinds


def _kinds(file: BinaryIO) -> Iterator[bytes]:
    """The names of the boxes at the top, as far as the file goes."""
    place = 0
    while len(header := file.read(2 * _HEADER)) >= _HEADER:
        size, kind = int.from_bytes(header[:4], 'big'), header[4:8]
        yield kind
        if size == _LONG:
            size = int.from_bytes(header[_HEADER:], 'big')
        if size < _HEADER:  # 0: it goes to the end
            return
        place += size
        file.seek(place)
