"""The boxes of which a QuickTime or MP4 file consists (ISO/IEC 14496-12, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_LONG = 1  # instead of a size: it follows the name, in eight bytes
_HEADER = 8


class Box(NamedTuple):
    """A box.

    Attributes:
        place: Of its first byte in the file.
        kind: Its name.
        content: The place of its content.
        end: The place behind it; None if it goes to the end of the file.
    """

    place: int
    kind: bytes
    content: int
    end: int | None


def lacks_index(file: BinaryIO) -> bool:
    """Whether a file begins like MP4 but has no index of its pictures, because its recording or copy broke off."""
    kinds = [box.kind for box in boxes(file)]
    return bool(kinds) and kinds[0] == b'ftyp' and b'moov' not in kinds


def second_movie(file: BinaryIO) -> int | None:
    """The place at which another movie begins behind the first; None if there is none.

    The head of a file may come again before its fragments. They are those of another movie if their times begin anew.
    """
    found: list[Box] = []
    index: int | None = None  # of the first moov in `found`
    fragment: Box | None = None  # the last one
    begun: int | None = None  # the place of another head
    for box in boxes(file):
        if index is not None and begun is None and box.kind in (b'ftyp', b'moov'):
            begun = box.place
            pictures_come_first = any(each.kind == b'mdat' for each in found[:index])
            if box.kind == b'moov' and pictures_come_first and index + 1 < len(found):  # QuickTime without ftyp
                begun = found[index + 1].place
        if box.kind == b'moof':
            if begun is not None and (fragment is None or _begins_anew(file, fragment, box)):
                return begun
            fragment, begun = box, None
        if box.kind == b'moov' and index is None:
            index = len(found)
        found.append(box)
    has_pictures = begun is not None and any(box.kind == b'mdat' and box.place >= begun for box in found)
    return begun if has_pictures else None


def boxes(file: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """The boxes from a place on, as far as the file goes: those at the top, or those in another box."""
    place: int | None = start
    while place is not None and (end is None or place < end):
        file.seek(place)
        header = file.read(2 * _HEADER)
        if len(header) < _HEADER:
            return
        size, content = int.from_bytes(header[:4], 'big'), place + _HEADER
        if size == _LONG:
            size, content = int.from_bytes(header[_HEADER:], 'big'), place + 2 * _HEADER
        after = place + size if size >= _HEADER else None  # 0: it goes to the end
        yield Box(place, header[4:8], content, after)
        place = after


def _begins_anew(file: BinaryIO, before: Box, behind: Box) -> bool:
    first, second = _begins_of_tracks(file, before), _begins_of_tracks(file, behind)
    common = first.keys() & second.keys()
    return bool(common) and all(second[track] <= first[track] for track in common)


def _begins_of_tracks(file: BinaryIO, fragment: Box) -> dict[int, int]:
    """{track: its time at the beginning of a fragment}, without tracks of which the fragment does not say it."""
    times: dict[int, int] = {}
    for box in boxes(file, fragment.content, fragment.end):
        track = None
        for part in boxes(file, box.content, box.end) if box.kind == b'traf' else ():
            file.seek(part.content)
            values = file.read(12)  # the version and flags, then a track or a time
            if part.kind == b'tfhd':
                track = int.from_bytes(values[4:8], 'big')
            elif part.kind == b'tfdt' and track is not None:
                times[track] = int.from_bytes(values[4:12] if values[:1] == b'\1' else values[4:8], 'big')
    return times
