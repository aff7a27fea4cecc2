"""Reads the frames of a video in order: progressive, at continuous times, and with marks for those that are missing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.decoding_times import DecodingTimes
from pdan_plugin.media.deinterlacing import Deinterlacer, TimedFrame
from pdan_plugin.media.joined_recordings import second_recording
from pdan_plugin.media.pyav import exact, frame_duration, import_av, packets_of, times_may_jump
from pdan_plugin.media.timeline import Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from pdan_plugin.media.video_source import SourceVideo

_ONE_LENGTH = ('matroska,webm', 'asf')  # FFmpeg's names of formats with a length of the file alone, counted from 0
_HOLE = 1 << 12  # bytes between packets of an FLV; what describes it is shorter


@dataclass
class FrameReader:
    """Reads a video once, from start to end; memory holds one frame at a time.

    A packet gives the time of its frame. The frame is missing if the decoder returns a later one first, or marks the
    frame as damaged. A packet between two frames at the regular distance (a hidden reference frame) is not counted as
    missing. Interlaced frames are deinterlaced. Where the times of the file jump, they are made to continue.

    Attributes:
        end: The end of the last frame, in ticks.
        latest: The end of the last packet of any stream, in seconds.
        broke_off: Why reading stopped before the end of the file; None if it did not.
        new_stream: The time in seconds at which a stream begins that the file did not announce; None if none does.
        unread: Bytes of the file that FFmpeg skipped: holes of an FLV, and a second recording behind the first.
        joint: The place in the file where that recording begins; None if there is none.
        timeline: The jumps in the times of the file.
        deinterlacer: The number of interlaced frames.
    """

    container: InputContainer
    stream: VideoStream
    copied: list[Stream]
    rate: Fraction
    end: int = 0
    latest: Fraction = Fraction(0)
    broke_off: str | None = None
    new_stream: Fraction | None = None
    unread: int = 0
    joint: int | None = None
    deinterlacer: Deinterlacer = field(default_factory=Deinterlacer)
    _expected: list[int] = field(default_factory=list)
    _last: int | None = None
    _read_up_to: int | None = None  # the place in the file behind the last packet

    def __post_init__(self) -> None:
        time_base = self.stream.time_base or Fraction(1, 1000)
        self._regular = max(1, round(1 / (self.rate * time_base)))
        self.timeline = Timeline(times_may_jump(self.container))
        self.joint = second_recording(Path(self.container.name), self.container.format.name)
        self._is_flv = self.container.format.name == 'flv'
        self._decoding = DecodingTimes(self.container.format.name, self.stream)

    def __iter__(self) -> Iterator[Packet | TimedFrame]:
        """Yields packets of the copied streams, and frames, in the order of the file."""
        for item in self._read():
            if isinstance(item, TimedFrame):
                yield from self.deinterlacer.add(item)
            else:
                yield item
        yield from self.deinterlacer.finish()

    def _read(self) -> Iterator[Packet | TimedFrame]:
        av = import_av()
        packets = packets_of(self.container, [self.stream, *self.copied], self._note_new_stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self.broke_off = getattr(error, 'strerror', None) or str(error)
                packet = None
            if packet is None:
                break
            if self.joint is not None and (packet.pos or 0) >= self.joint:
                continue
            self._note_hole(packet)
            has_jumped = self.timeline.continue_times(packet)
            if packet.stream.index != self.stream.index:
                if packet.size:
                    self._reach(((packet.pts or 0) + (packet.duration or 0)) * exact(packet.time_base))
                    yield packet
                continue
            if has_jumped:  # what the decoder still holds belongs to the recording before
                yield from self._decoded(av, None)
                self.stream.codec_context.flush_buffers()
            yield from self._decoded(av, packet)
        size = self.container.size
        if self._is_flv and self._read_up_to is not None and size is not None and size - self._read_up_to > _HOLE:
            self.unread += size - self._read_up_to
        if self.joint is not None and size is not None:
            self.unread += size - self.joint
        yield from self._decoded(av, None)
        yield from self._missing(None)

    def _decoded(self, av: Any, packet: Packet | None) -> Iterator[TimedFrame]:
        time = None if packet is None or not packet.size else self._decoding.add(packet)
        if packet is not None and time is not None and not packet.is_discard:
            heapq.heappush(self._expected, time)
        if packet is not None and not packet.size:
            return  # the end of the stream; the decoder is flushed after the loop
        try:
            frames = self.stream.decode(packet)
        except (av.FFmpegError, OSError):
            return  # its frames are reported as missing later
        for frame in frames:
            time = self._decoding.of(frame, is_held=packet is None)
            if time is None:
                time = 0 if self._last is None else self._last + self._regular
            if self._last is not None and time <= self._last:
                time = self._last + 1
            yield from self._missing(time)
            yield self._timed(time, frame_duration(frame) or self._regular, None if frame.is_corrupt else frame)

    def _note_new_stream(self) -> None:
        if self.new_stream is None:
            self.new_stream = self.latest

    def _note_hole(self, packet: Packet) -> None:
        if self._is_flv and packet.pos is not None and packet.size:
            if self._read_up_to is not None and packet.pos - self._read_up_to > _HOLE:
                self.unread += packet.pos - self._read_up_to
            self._read_up_to = packet.pos + packet.size

    def _missing(self, until: int | None) -> Iterator[TimedFrame]:
        """Yields the missing frames, which were expected before ``until``."""
        while self._expected and (until is None or self._expected[0] <= until):
            time = heapq.heappop(self._expected)
            after_last = self._last is None or time - self._last > self._regular // 2
            before_next = until is None or until - time > self._regular // 2
            if after_last and before_next:
                yield self._timed(time, self._regular, None)

    def _timed(self, time: int, duration: int, frame: VideoFrame | None) -> TimedFrame:
        self._last = time
        self.end = max(self.end, time + duration)
        self._reach(self.end * exact(self.stream.time_base or 0))
        return TimedFrame(time, duration, frame)

    def _reach(self, seconds: Fraction) -> None:
        self.latest = max(self.latest, seconds)


def unread_part(reader: FrameReader) -> str | None:
    """What of a file that has been read to its end was left out; None if nothing was."""
    if reader.joint is not None:
        return (
            f'{reader.unread:,} bytes of the file are left out: another recording, behind the first; split the file at '
            f'byte {reader.joint:,}'
        )
    if reader.unread:
        return (
            f'{reader.unread:,} bytes of the file cannot be read, such as another recording behind the first; split '
            'the file'
        )
    return None


def early_end(reader: FrameReader, video: SourceVideo) -> str | None:
    """What is missing at the end of a video that has been read; None if nothing is.

    Compares the ends of the pictures and of all streams with those in the header. FFmpeg gives a stream without a
    length of its own that of the file, which the sound may fill.
    """
    container = reader.container
    start = Fraction(container.start_time or 0, import_av().time_base)
    base, stream = video.time_base, reader.stream
    ended, latest = reader.end * base, reader.latest
    length_of_file = Fraction(container.duration or 0, import_av().time_base)
    ends: list[tuple[Fraction, Fraction]] = []
    has_one_length = container.format.name in _ONE_LENGTH
    if stream.duration and not has_one_length and abs(stream.duration * base - length_of_file) > base:
        ends.append((ended, ((stream.start_time or 0) + stream.duration) * base))
    if container.format.name == 'avi' and stream.frames:  # in the header; FFmpeg's lengths are those of what is there
        ends.append((ended, ((stream.start_time or 0) + stream.frames) * base))
    if length_of_file:
        counted_from = 0 if has_one_length else start
        ends.append((latest, counted_from + length_of_file))
    tolerance = max(Fraction(1, 10), 2 / video.rate)
    if reader.joint is not None:
        ends = ends[:0]  # the header may count both recordings
    lengths = [expected - start for found, expected in ends if expected - found > tolerance]
    if (not lengths or reader.timeline.jumps) and not reader.broke_off:
        return None
    length = f' of {float(max(lengths)):.2f} s' if lengths else ''
    why = f' ({reader.broke_off})' if reader.broke_off else ''
    return f'the file ends early, at {float(ended - start):.2f} s{length}{why}'
