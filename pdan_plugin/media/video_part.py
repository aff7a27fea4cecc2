"""A part of a video: the times at which it begins and ends, and what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.pyav import exact
from pdan_plugin.media.video_containers import RefusedStream, copied_streams
from pdan_plugin.media.video_frames import FrameReader
from pdan_plugin.media.video_source import SourceVideo, VideoFileError, open_video, picture_stream

if TYPE_CHECKING:
    from av.packet import Packet

_LATE = 10  # seconds of pictures behind the end after which no more sound is waited for


@dataclass(frozen=True)
class VideoPart:
    """A part of a video.

    Attributes:
        start, end: Times in seconds, of the first frame of the part and of the first one behind it; ``end`` is None if
            the part goes on to the end of the video.
        frames: Number of frames; 0 if unknown.
        time_base: Seconds per tick of the pictures.
        notes: Messages for the user.
    """

    start: Fraction
    end: Fraction | None
    frames: int
    time_base: Fraction
    notes: tuple[str, ...] = ()

    def items(self, reader: FrameReader) -> Iterator[Packet | TimedFrame]:
        """The frames of the part, and the packets of the copied streams that begin in its time.

        Reading ends when no more sound of the part can come.
        """
        waits_for = {stream.index for stream in reader.copied if stream.type == 'audio'}
        is_behind = False
        for item in reader:
            if isinstance(item, TimedFrame):
                time = item.time * self.time_base
                is_behind = is_behind or (self.end is not None and time >= self.end)
                if self.end is not None and time > self.end + _LATE:
                    return
            else:
                shown = item.pts if item.pts is not None else item.dts or 0
                time = shown * exact(item.time_base)
                if self.end is not None and time >= self.end:
                    waits_for.discard(item.stream.index)
            if time >= self.start and (self.end is None or time < self.end):
                yield item
            if is_behind and not waits_for:
                return


def find_part(path: Path, video: SourceVideo, refused: list[RefusedStream], frames: FrameRange) -> VideoPart:
    """Decodes a video up to the end of a part to find the times of the part's frames.

    All times are counted as they are when the part is restored: with the same streams and across the same jumps.

    Args:
        refused: The streams that the result cannot hold.

    Raises:
        VideoFileError: The video has no such frame.
        OSError: The file cannot be read.
    """
    left_out = {stream.index for stream in refused}
    start: Fraction | None = None
    number = 0
    with open_video(path) as container:
        kept = [stream for stream in copied_streams(container) if stream.index not in left_out]
        reader = FrameReader(container, picture_stream(container), kept, video.rate)
        for item in reader:
            if not isinstance(item, TimedFrame):
                continue
            time = item.time * video.time_base
            start = time if number == frames.start else start
            if start is not None and frames.stop is None:
                return VideoPart(start, None, max(0, video.frames - frames.start), video.time_base)
            if start is not None and number == frames.stop:
                return VideoPart(start, time, number - frames.start, video.time_base)
            number += 1
    if start is None:
        raise VideoFileError(f'has {number} frames, and frames {frames} are none of them; they are counted from 0')
    notes = () if number == frames.stop else (f'it has {number} frames: frames {frames.start}:{number} are restored',)
    return VideoPart(start, None, number - frames.start, video.time_base, notes)
