"""Reads the frames of a video in order: progressive, at continuous times, and with marks for those that are missing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.deinterlacing import Deinterlacer, TimedFrame
from pdan_plugin.media.pyav import frame_duration, import_av, times_may_jump
from pdan_plugin.media.timeline import Timeline

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from pdan_plugin.media.video_source import SourceVideo


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
    deinterlacer: Deinterlacer = field(default_factory=Deinterlacer)
    _expected: list[int] = field(default_factory=list)
    _last: int | None = None

    def __post_init__(self) -> None:
        time_base = self.stream.time_base or Fraction(1, 1000)
        self._regular = max(1, round(1 / (self.rate * time_base)))
        self.timeline = Timeline(times_may_jump(self.container))

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
        packets = self.container.demux([self.stream, *self.copied])
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                self.broke_off = getattr(error, 'strerror', None) or str(error)
                packet = None
            if packet is None:
                break
            has_jumped = self.timeline.continue_times(packet)
            if packet.stream.index != self.stream.index:
                if packet.size:
                    self._reach(((packet.pts or 0) + (packet.duration or 0)) * Fraction(packet.time_base))
                    yield packet
                continue
            if has_jumped:  # what the decoder still holds belongs to the recording before
                yield from self._decoded(av, None)
                self.stream.codec_context.flush_buffers()
            yield from self._decoded(av, packet)
        yield from self._decoded(av, None)
        yield from self._missing(None)

    def _decoded(self, av: Any, packet: Packet | None) -> Iterator[TimedFrame]:
        if packet is not None and packet.pts is not None and not packet.is_discard and packet.size:
            heapq.heappush(self._expected, packet.pts)
        if packet is not None and not packet.size:
            return  # the end of the stream; the decoder is flushed after the loop
        try:
            frames = self.stream.decode(packet)
        except (av.FFmpegError, OSError):
            return  # its frames are reported as missing later
        for frame in frames:
            time = frame.pts
            if time is None:
                time = 0 if self._last is None else self._last + self._regular
            if self._last is not None and time <= self._last:
                time = self._last + 1
            yield from self._missing(time)
            yield self._timed(time, frame_duration(frame) or self._regular, None if frame.is_corrupt else frame)

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
        self._reach(self.end * Fraction(self.stream.time_base or 0))
        return TimedFrame(time, duration, frame)

    def _reach(self, seconds: Fraction) -> None:
        self.latest = max(self.latest, seconds)


def early_end(reader: FrameReader, video: SourceVideo, container: InputContainer) -> str | None:
    """What is missing at the end of a video that has been read; None if nothing is.

    Compares the ends of the pictures and of all streams with those in the header.
    """
    start = Fraction(container.start_time or 0, import_av().time_base)
    base, stream = video.time_base, reader.stream
    ended, latest = reader.end * base, reader.latest
    ends = [(ended, ((stream.start_time or 0) + stream.duration) * base)] if stream.duration else []
    if container.duration:
        counted_from = 0 if 'matroska' in container.format.name else start
        ends.append((latest, counted_from + Fraction(container.duration, import_av().time_base)))
    tolerance = max(Fraction(1, 10), 2 / video.rate)
    lengths = [expected - start for found, expected in ends if expected - found > tolerance]
    if (not lengths or reader.timeline.jumps) and not reader.broke_off:
        return None
    length = f' of {float(max(lengths)):.2f} s' if lengths else ''
    why = f' ({reader.broke_off})' if reader.broke_off else ''
    return f'the file ends early, at {float(ended - start):.2f} s{length}{why}'
