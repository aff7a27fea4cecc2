"""Writes the streams of a restored video: its pictures, and the sound and subtitles of the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pdan_plugin.media.copied_packets import CopiedPackets
from pdan_plugin.media.decoded_frames import DecodedFrame
from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.encoded_pictures import EncodedPictures
from pdan_plugin.media.pyav import import_av
from pdan_plugin.media.video_containers import Refused, carry_over, is_cover, notes_on_refused, sound_for_other_suffix
from pdan_plugin.media.video_frames import FrameReader, early_end, unread_part
from pdan_plugin.media.video_part import VideoPart
from pdan_plugin.media.video_source import SourceVideo, VideoFileError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame


@dataclass
class VideoOutcome:
    """The outcome for one video.

    Attributes:
        frames: Number of frames written.
        notes: Messages for the user that are not problems.
        problems: Parts of the source that could not be read, and what the result has instead.
    """

    frames: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class VideoWriter:
    """Writes the frames of a result in the order of time, and says what it lacks.

    Args:
        reader: Of the source.
        pictures: The result's pictures; its header is not written yet.
        refused: The streams that results cannot hold, by their ending.
        suffix: The ending of the result.
        part: The part of the video; None for all of it.
    """

    def __init__(
        self,
        reader: FrameReader,
        video: SourceVideo,
        output: OutputContainer,
        pictures: EncodedPictures,
        refused: Refused,
        suffix: str,
        part: VideoPart | None,
    ) -> None:
        self.outcome = VideoOutcome()
        self._reader, self._video, self._part, self._pictures = reader, video, part, pictures
        container = reader.container
        self._file_start = Fraction(container.start_time or 0, import_av().time_base)
        start = self._file_start if part is None else part.start  # every result starts at 0
        self._start = round(start / video.time_base)
        self.packets = CopiedPackets(output, suffix, reader.copied, start)
        every = {reader.stream.index: pictures.stream, **self.packets.streams}
        self.carried = carry_over(container, output, suffix, start, every, None if part is None else part.end)
        output.start_encoding()  # writes the header; the time bases of the result are known from here on
        self.outcome.notes += [*pictures.notes, *self.carried.notes]
        self._lost: set[str] = set()
        self._is_cut = False
        self._good: VideoFrame | None = None
        self._waiting: list[TimedFrame] = []  # missing frames before the first good one
        self._holes: list[int] = []
        self._transparent: list[int] = []  # times of frames that are not opaque
        self._note_left_out(refused, suffix)

    def add(self, decoded: DecodedFrame, restored: Callable[[], NDArray[Any]] | None) -> bool:
        """Writes a frame, or ends the result before one that cannot be part of it; returns whether it was written."""
        item = decoded.item
        if decoded.error is not None:
            if self.outcome.frames == 0:
                raise decoded.error
            self._is_cut = True
            at = self._seconds(item.time * self._video.time_base)
            self.outcome.problems.append(f'{decoded.error} (at {at}; restored up to there)')
            return False
        if restored is None:
            self._holes.append(item.time)
            if self._good is None:
                self._waiting.append(item)
                return True
        else:
            self._lost |= decoded.lost
            self._transparent += [item.time] if decoded.is_transparent else []
            self._good = self._pictures.encodable(restored())
            for hole in self._waiting:
                self._encode(hole)
            self._waiting.clear()
        self._encode(item)
        return True

    def finish(self) -> VideoOutcome:
        if self._good is None:
            raise VideoFileError('has no frame that can be decoded')
        self._pictures.finish()
        self.packets.close()
        if self._holes:
            self.outcome.problems.append(
                f'{self._counted(self._holes, "could not be decoded")}; the last good picture is shown instead'
            )
        if self._transparent:
            self.outcome.notes.append(
                f'{self._counted(self._transparent, "are not opaque")}: the result cannot hold transparency, so hidden '
                'colours are visible; to keep transparency, extract the frames as PNG and restore the folder'
            )
        interlaced = self._reader.deinterlacer.interlaced
        if interlaced:
            self.outcome.notes.append(f'{interlaced} frames are interlaced: deinterlaced, one frame for each')
        self.outcome.notes += [f'left out: {what}' for what in sorted(self._lost)]
        for index, times in self.packets.refused.items():
            self.outcome.problems.append(
                f'{len(times)} packets of {self.packets.streams[index].type} stream {index} cannot be copied and are '
                f'left out, the first at {self._seconds(times[0])}'
            )
        self._report_jumps()
        self._report_unread()
        self.outcome.notes += [] if self._part is None else self._part.notes
        if not self._is_cut and (self._part is None or self._part.end is None):
            reason = early_end(self._reader, self._video)
            self.outcome.problems += [] if reason is None else [f'{reason}; restored up to there']
        return self.outcome

    def _counted(self, times: list[int], what: str) -> str:
        first = self._seconds(times[0] * self._video.time_base)
        return f'{len(times)} frame{"s" if len(times) > 1 else ""} {what}, the first at {first}'

    def _seconds(self, time: Fraction) -> str:
        return f'{float(time - self._file_start):.2f} s'

    def _report_jumps(self) -> None:
        jumps = self._reader.timeline.jumps
        if jumps:
            listed = ', '.join(f'{self._seconds(jump.time)} ({float(jump.step):+.2f} s)' for jump in jumps[:5])
            more = f' and {len(jumps) - 5} more' if len(jumps) > 5 else ''
            self.outcome.notes.append(f'its times jump at {listed}{more}: the result continues there without a gap')

    def _report_unread(self) -> None:
        reader = self._reader
        left_out = unread_part(reader)
        self.outcome.problems += [] if left_out is None else [left_out]
        if reader.new_stream is not None:
            text = (
                f'at {self._seconds(reader.new_stream)} a stream begins that the file did not announce; it is left out'
            )
            if reader.end * self._video.time_base > reader.new_stream + 1:
                self.outcome.notes.append(text)
            else:
                self.outcome.problems.append(f'{text}, and the pictures end there; cut the file there')

    def _encode(self, item: TimedFrame) -> None:
        assert self._good is not None
        self._pictures.encode(self._good, item.time - self._start, item.duration)
        self.outcome.frames += 1

    def _note_left_out(self, refused: Refused, suffix: str) -> None:
        pictures = self._reader.stream.index
        for stream in sound_for_other_suffix(refused, suffix):
            self.outcome.problems.append(f'its sound (audio stream {stream.index}) cannot be copied into {suffix}')
        self.outcome.notes += notes_on_refused(refused, suffix)
        for stream in self._reader.container.streams:
            if stream.index != pictures and stream.type not in ('audio', 'subtitle', 'attachment'):
                name = 'the cover picture, ' if stream.type == 'video' and is_cover(stream) else ''
                self.outcome.notes.append(f'left out: {name}{stream.type} stream {stream.index}')
        if self._video.hides_transparency:
            self.outcome.notes.append(
                f'left out: the transparency of video stream {pictures}, which the decoder does not return; hidden '
                'colours are visible'
            )
