"""What a result's container takes over from its source beside the pictures: sound, subtitles, chapters, fonts, tags."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.pyav import (
    attach_file,
    chapters_of,
    disposition_of,
    import_av,
    open_container,
    set_chapters,
    set_disposition,
)

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

WRITTEN_VIDEO_SUFFIXES = ('.mp4', '.mkv')

_FORMATS = {'.mp4': 'mp4', '.mkv': 'matroska'}
_TAGS_OF_THE_FILE = ('major_brand', 'minor_version', 'compatible_brands', 'encoder', 'duration')
_STREAM_TAGS = ('language', 'title')
_ATTACHED_PICTURE = 0x400
_DISPOSITIONS = {0x1: 'default', 0x2: 'dub', 0x4: 'original', 0x8: 'comment', 0x10: 'lyrics', 0x20: 'karaoke',
                 0x40: 'forced', 0x80: 'for the hearing impaired', 0x100: 'for the visually impaired',
                 0x200: 'clean effects', 0x10000: 'captions', 0x20000: 'descriptions'}  # fmt: skip
_ALL_DISPOSITIONS = sum(_DISPOSITIONS)


@dataclass(frozen=True)
class RefusedStream:
    """A stream that a result cannot hold; usable after the file is closed."""

    index: int
    type: str
    codec: str


Refused = dict[str, list[RefusedStream]]  # by the ending of a result


def copied_streams(container: InputContainer) -> list[Stream]:
    """The streams to copy into the result: sound and subtitles."""
    return [stream for stream in container.streams if stream.type in ('audio', 'subtitle')]


def refused_streams(container: InputContainer) -> Refused:
    """The `copied_streams` that each kind of result cannot hold, found by trying."""
    return {
        suffix: [
            RefusedStream(stream.index, stream.type, stream.codec_context.name if stream.codec_context else 'unknown')
            for stream in copied_streams(container)
            if not _can_hold(suffix, stream)
        ]
        for suffix in WRITTEN_VIDEO_SUFFIXES
    }


def best_suffix(refused: Refused) -> str:
    """The ending of the result that loses least: sound counts first, then subtitles; .mp4 if both lose the same."""

    def lost(suffix: str) -> tuple[int, int]:
        sound = sum(stream.type == 'audio' for stream in refused[suffix])
        return sound, len(refused[suffix]) - sound

    return min(WRITTEN_VIDEO_SUFFIXES, key=lost)


def other_suffix(suffix: str) -> str:
    """The other ending of a result."""
    return next(each for each in WRITTEN_VIDEO_SUFFIXES if each != suffix)


def sound_for_other_suffix(refused: Refused, suffix: str) -> list[RefusedStream]:
    """The sound that a result with this ending loses, and one with the other ending does not."""
    nowhere = {stream.index for stream in refused[other_suffix(suffix)]}
    return [stream for stream in refused[suffix] if stream.type == 'audio' and stream.index not in nowhere]


def notes_on_refused(refused: Refused, suffix: str) -> list[str]:
    """What is left out because a result with this ending cannot hold it."""
    elsewhere = {stream.index for stream in refused[suffix]} - {each.index for each in refused[other_suffix(suffix)]}
    return [
        f'left out: {stream.type} stream {stream.index} ({stream.codec}), which '
        + (f'{suffix} cannot hold; {other_suffix(suffix)} can' if stream.index in elsewhere else 'no result can hold')
        for stream in refused[suffix]
    ]


def _can_hold(suffix: str, stream: Stream) -> bool:
    av = import_av()
    if stream.codec_context is None:  # FFmpeg does not know the codec, such as the second sound of a telephone
        return False
    try:
        Rehearsal(suffix, stream).close()
    except (av.FFmpegError, ValueError):
        return False
    return True


class Rehearsal:
    """A result with one copied stream alone, written to nowhere.

    It shows which packets the muxer refuses. In the result itself packets of several streams wait for each other, so an
    error would come with another packet, and end the result.

    Raises:
        av.FFmpegError, ValueError: A result with this ending cannot hold the stream.
    """

    def __init__(self, suffix: str, stream: Stream) -> None:
        self._output = open_container(_Nowhere(), 'w', format=_FORMATS[suffix])
        self._copy = self._output.add_stream_from_template(stream)
        self._output.start_encoding()  # writes the header: muxers raise here if they cannot hold a stream

    def takes(self, packet: Packet) -> bool:
        """Whether the result can hold the next packet of the stream."""
        packet.stream = self._copy
        try:
            self._output.mux(packet)
        except import_av().FFmpegError:
            return False
        return True

    def close(self) -> None:
        with contextlib.suppress(import_av().FFmpegError):
            self._output.close()


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing but its size."""

    def __init__(self) -> None:
        self._position = self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._position = (0, self._position, self._size)[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position


@dataclass(frozen=True)
class CarriedOver:
    """What of a source was given to the result's muxer, which may drop parts without an error.

    Attributes:
        tags: Names of the file's tags.
        chapters: Number of chapters.
        dispositions: Index of a stream of the result -> the source's name of it, and its bits.
        notes: What was left out at once.
    """

    tags: list[str]
    chapters: int
    dispositions: dict[int, tuple[str, int]]
    notes: list[str]

    def lost_in(self, result: Path) -> list[str]:
        """Notes on what the finished result lacks."""
        with open_container(result) as written:
            holders = (written, *written.streams)  # a timecode becomes a stream of its own
            there = {key.lower() for holder in holders for key in holder.metadata}
            tags = [tag for tag in self.tags if tag.lower() not in there]
            lost = [f'the tag{"s" if len(tags) > 1 else ""} {", ".join(tags)}'] if tags else []
            missing = self.chapters - len(chapters_of(written) or ())
            lost += [f'{missing} of its {self.chapters} chapters'] if missing > 0 else []
            for index, (name, bits) in self.dispositions.items():
                bits &= ~disposition_of(written.streams[index])
                lost += [f'the mark "{word}" of {name}' for bit, word in _DISPOSITIONS.items() if bits & bit]
        return [f'left out: {what}, which {result.suffix} does not hold' for what in lost]


def carry_over(
    container: InputContainer,
    output: OutputContainer,
    suffix: str,
    start: Fraction,
    copies: dict[int, Stream],
    end: Fraction | None = None,
) -> CarriedOver:
    """Copies tags, chapters, attached files and dispositions, before the header of the result is written.

    Args:
        suffix: The ending of the result.
        start: The time in the source, in seconds, at which the result starts.
        copies: Index of a stream of the source -> its stream in the result.
        end: The time in the source at which the result ends; None if it ends with the source.
    """
    notes = []
    tags = {key: value for key, value in container.metadata.items() if key.lower() not in _TAGS_OF_THE_FILE}
    output.metadata.update(tags)
    chapters = chapters_of(container)
    if chapters is None:
        notes.append('left out: its chapters, which this PyAV cannot read; update it: pip install --upgrade av')
    elif chapters := [each for each in chapters if _is_between(each, start, end)]:
        set_chapters(output, [_shifted(chapter, start) for chapter in chapters])
    for stream in container.streams:
        if stream.index in copies:
            copy = copies[stream.index]
            copy.metadata.update({key: value for key, value in stream.metadata.items() if key in _STREAM_TAGS})
            set_disposition(copy, disposition_of(stream) & _ALL_DISPOSITIONS)
        elif stream.type == 'attachment' and not (suffix == '.mkv' and attach_file(output, stream)):
            reason = f'{suffix} cannot hold; .mkv can' if suffix != '.mkv' else 'this PyAV cannot write; update it'
            notes.append(f'left out: the attached file {stream.metadata.get("filename", stream.index)}, which {reason}')
    marked = {
        copy.index: (f'{copy.type} stream {index}', disposition_of(container.streams[index]))
        for index, copy in copies.items()
    }
    return CarriedOver(sorted(tags), len(chapters or ()), marked, notes)


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is an attached picture."""
    return bool(disposition_of(stream) & _ATTACHED_PICTURE)


def _is_between(chapter: dict[str, Any], start: Fraction, end: Fraction | None) -> bool:
    """Whether a part of a chapter is in the result."""
    if end is None:
        return True
    return chapter['end'] * chapter['time_base'] > start and chapter['start'] * chapter['time_base'] < end


def _shifted(chapter: dict[str, Any], start: Fraction) -> dict[str, Any]:
    ticks = round(start / chapter['time_base'])
    return {**chapter, 'start': max(0, chapter['start'] - ticks), 'end': max(0, chapter['end'] - ticks)}
