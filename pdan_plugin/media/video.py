"""Restores videos frame by frame; times and sound are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.machine.memory import free_memory
from pdan_plugin.machine.overlap import ReadAhead, WriteBehind
from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.hdr_metadata import what_frame_loses
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.pyav import (
    from_rgb,
    import_av,
    open_container,
    set_frame_duration,
    set_primaries_and_transfer,
    to_rgb,
)
from pdan_plugin.media.resampling import resampled
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding
from pdan_plugin.media.video_containers import (
    Refused,
    Rehearsal,
    carry_over,
    copied_streams,
    is_cover,
    notes_on_refused,
    sound_for_other_suffix,
)
from pdan_plugin.media.video_frames import FrameReader, early_end
from pdan_plugin.media.video_part import VideoPart, find_part
from pdan_plugin.media.video_source import (
    MATRICES,
    SourceVideo,
    VideoFileError,
    VideoHeader,
    open_video,
    picture_stream,
    read_video_header,
    upright_rgb,
)

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_LARGEST = 139264  # blocks of 16x16 in a frame: the limit of level 6.2 of H.264 and H.265
_BT709, _FULL_RANGE = 1, 2
_AHEAD, _BEHIND = 4, 3  # frames read before, and waiting behind, the network
_SHARE, _MOST_BYTES = 8, 2**31  # frames behind the network take at most this part of the free memory


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


def restore_video(
    restorer: PictureRestorer,
    source: Path,
    target: Path,
    on_frame: Callable[[int, int], None] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
    *,
    header: VideoHeader | None = None,
    size: ResultSize | None = None,
    coding: VideoCoding | None = None,
    frames: FrameRange | None = None,
    most_bytes: int | None = None,
) -> VideoOutcome:
    """Restores a video into ``target``, .mp4 or .mkv, which appears when it is complete.

    Pictures become H.264 in 4:2:0, or H.265 if they have more than 8 bits, or what ``coding`` names. Frames have
    exactly the times of the source, except that they continue where those of the source jump. The pixels are turned
    upright; interlaced frames are deinterlaced. Sound, subtitles, chapters, tags and attached files are copied, as far
    as the result can hold them. The last good frame replaces a frame that cannot be decoded, so that sound and picture
    stay in sync. If the size of the pictures changes, the result ends there.

    Args:
        on_frame: Called with (frames written, frames in total or 0 if unknown), in the thread that writes.
        on_tile: As in :meth:`PictureRestorer.restore_picture`.
        header: The source's header, if it was read already; it is read again if the file has changed since.
        size: The size of the result; None for the network's.
        coding: The encoder and its quality; None for the defaults.
        frames: The part of the video, with its sound; None for all of it.
        most_bytes: What results that wait to be written may take; None for a part of the free memory.

    Raises:
        VideoFileError: The video cannot be restored.
        OSError: The source cannot be read, or the result cannot be written.
    """
    av = import_av()
    if header is None or not header.is_of(source):
        header = read_video_header(source)
    if header.video is None:
        raise VideoFileError(str(header.problem))
    video, suffix = header.video, target.suffix.lower()
    part = None if frames is None else find_part(source, video, header.refused[suffix], frames)
    try:
        with written_whole(target) as unfinished:
            with (
                open_video(source) as container,
                open_container(str(unfinished), 'w', options=_muxing(suffix)) as output,
            ):
                wanted = _Wanted(size, coding or VideoCoding(), part)
                writer = _Writer(av, video, restorer, container, output, header.refused, suffix, on_tile, wanted)
                _restore_frames(writer, video.frames if part is None else part.frames, on_frame, most_bytes)
                outcome = writer.finish()
            outcome.notes += writer.carried.lost_in(unfinished)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f'cannot be written: {error.strerror}', str(target)) from error
        raise VideoFileError(f'cannot be written as {target.suffix}: {error}') from error
    return outcome


@dataclass
class _Decoded:
    """A frame of the source, ready for the network.

    Attributes:
        item: Its time, and the frame; without one if it is missing.
        pixels: (h, w, 3), upright; None for a missing frame.
        lost: What the result cannot hold of it.
        is_transparent: Whether it is not opaque.
        error: Why it cannot be part of the result; nothing follows.
    """

    item: TimedFrame
    pixels: NDArray[Any] | None = None
    lost: set[str] = field(default_factory=set)
    is_transparent: bool = False
    error: VideoFileError | None = None


def _restore_frames(
    writer: _Writer, total: int, on_frame: Callable[[int, int], None] | None, most_bytes: int | None
) -> None:
    """Restores and copies up to the end, or up to a frame that cannot be part of the result.

    Three threads: one reads ahead, this one begins frames on the network, and one waits for them and writes them.
    """

    def add(decoded: _Decoded, restored: Callable[[], NDArray[Any]] | None) -> None:
        is_restored = writer.add(decoded, restored)
        if is_restored and on_frame is not None:
            on_frame(writer.outcome.frames, total)

    with ReadAhead(writer.decoded(), _AHEAD) as items, WriteBehind(writer.frames_behind(most_bytes)) as behind:
        for item in items:
            if not isinstance(item, _Decoded):
                behind.add(partial(writer.copy, item))
            elif item.pixels is None:
                behind.add(partial(add, item, None))
            else:
                group = writer.group_from(item, items)
                for decoded, restored in zip(group, writer.begin(group), strict=True):
                    behind.add(partial(add, decoded, restored))


@dataclass(frozen=True)
class _Wanted:
    """What the result shall be."""

    size: ResultSize | None
    coding: VideoCoding
    part: VideoPart | None


class _Writer:
    """Restores frames and writes the streams of the result."""

    def __init__(
        self,
        av: Any,
        video: SourceVideo,
        restorer: PictureRestorer,
        container: InputContainer,
        output: OutputContainer,
        refused: Refused,
        suffix: str,
        on_tile: Callable[[int, int], None] | None,
        wanted: _Wanted,
    ) -> None:
        self.outcome = VideoOutcome()
        self._wanted = wanted
        self._av, self._video, self._restorer, self._output, self._on_tile = av, video, restorer, output, on_tile
        self._container = container
        self._file_start = Fraction(container.start_time or 0, av.time_base)
        self._start = self._file_start if wanted.part is None else wanted.part.start  # every result starts at 0
        self._is_deep = video.bits > 8
        self._pixel_format = 'yuv420p10le' if self._is_deep else 'yuv420p'
        self._packed = 'rgb48le' if self._is_deep else 'rgb24'
        self._matrix = video.matrix if video.matrix in MATRICES else _BT709
        source = picture_stream(container)
        left_out = {stream.index for stream in refused[suffix]}
        kept = [stream for stream in copied_streams(container) if stream.index not in left_out]
        self.reader = FrameReader(container, source, kept, video.rate)
        self._stream = self._picture_stream()
        self._copies: dict[int, Stream] = {each.index: output.add_stream_from_template(each) for each in kept}
        every = {source.index: self._stream, **self._copies}
        end = None if wanted.part is None else wanted.part.end
        self.carried = carry_over(container, output, suffix, self._start, every, end)
        self.outcome.notes += self.carried.notes
        # the limit of times of decoding: mp4 wants each later than the last, subtitles and Matroska not earlier
        self._steps = {each.index: int(suffix == '.mp4' and each.type == 'audio') for each in kept}
        output.start_encoding()  # writes the header; the time bases of the result are known from here on
        self._copied_up_to: dict[int, int] = {}  # time of decoding of the last packet, in ticks of the copy
        self._rehearsals = {each.index: Rehearsal(suffix, each) for each in kept}
        self._refused: dict[int, list[Fraction]] = {}  # index of a copied stream -> times of packets that were left out
        self._lost: set[str] = set()
        self._is_cut = False
        self._good: VideoFrame | None = None
        self._waiting: list[TimedFrame] = []  # missing frames before the first good one
        self._holes: list[int] = []
        self._transparent: list[int] = []  # times of frames that are not opaque
        self._note_left_out(source, container, refused, suffix)

    def decoded(self) -> Iterator[Packet | _Decoded]:
        """Yields the packets to copy and the frames of the wanted part, in the order of the file.

        The last frame may be one with an error.
        """
        for item in self.reader if self._wanted.part is None else self._wanted.part.items(self.reader):
            if not isinstance(item, TimedFrame):
                yield item
                continue
            try:
                yield self._decoded(item)
            except VideoFileError as error:
                yield _Decoded(item, error=error)
                return

    def _decoded(self, item: TimedFrame) -> _Decoded:
        if item.frame is None:
            return _Decoded(item)
        pixels = upright_rgb(item.frame, self._video, self._packed)
        is_transparent = self._video.may_be_transparent and not _is_opaque(item.frame)
        return _Decoded(item, pixels, what_frame_loses(item.frame), is_transparent)

    def group_from(self, first: _Decoded, items: ReadAhead[Packet | _Decoded]) -> list[_Decoded]:
        """A frame, with those after it that are ready and that the network may get at the same time."""
        group, most = [first], self._restorer.pictures_at_once(*self._video.upright_size)

        def fits(item: Packet | _Decoded) -> bool:
            return isinstance(item, _Decoded) and item.pixels is not None

        while len(group) < most and (another := items.take_ready(fits)) is not None:
            assert isinstance(another, _Decoded)
            group.append(another)
        return group

    def begin(self, group: list[_Decoded]) -> list[Callable[[], NDArray[Any]]]:
        """Begins frames on the network; the returned functions wait for their results."""
        return self._restorer.begin_pictures([each.pixels for each in group if each.pixels is not None], self._on_tile)

    def frames_behind(self, most_bytes: int | None) -> int:
        """The number of results that may wait to be written, by the memory that they take in float32 and rounded."""
        if most_bytes is None:
            most_bytes = min(_MOST_BYTES, free_memory(torch.device('cpu')) // _SHARE)
        height, width = (side * self._restorer.scale for side in self._video.upright_size)
        return max(0, min(_BEHIND, most_bytes // (height * width * 3 * 6) - 1))

    def add(self, decoded: _Decoded, restored: Callable[[], NDArray[Any]] | None) -> bool:
        """Writes a frame, or ends the result before one that cannot be part of it; returns whether it was written."""
        item = decoded.item
        if decoded.error is not None:
            if self.outcome.frames == 0:
                raise decoded.error
            self.end_early(item, str(decoded.error))
            return False
        if restored is None:
            self._holes.append(item.time)
            if self._good is None:
                self._waiting.append(item)
                return True
        else:
            self._lost |= decoded.lost
            self._transparent += [item.time] if decoded.is_transparent else []
            self._good = self._encodable(restored())
            for hole in self._waiting:
                self._encode(hole)
            self._waiting.clear()
        self._encode(item)
        return True

    def copy(self, packet: Any) -> None:
        """Writes a packet of sound or subtitles, or leaves it out if the result cannot hold it."""
        index = packet.stream.index
        copy = self._copies[index]
        base, copied_base = Fraction(packet.time_base), Fraction(copy.time_base or packet.time_base)

        def ticks(time: int | None) -> int | None:
            return None if time is None else round((time * base - self._start) / copied_base)

        shown, decoded = ticks(packet.pts), ticks(packet.dts)
        at = packet.pts if packet.pts is not None else packet.dts or 0
        if decoded is not None:  # the sound of recordings that were joined overlaps a little
            decoded = max(decoded, self._copied_up_to.get(index, decoded) + self._steps[index])
            shown = None if shown is None else max(shown, decoded)
            self._copied_up_to[index] = decoded
        duration = round((packet.duration or 0) * base / copied_base)
        packet.time_base, packet.pts, packet.dts, packet.duration = copied_base, shown, decoded, duration
        if self._rehearsals[index].takes(packet):
            packet.stream = copy
            self._output.mux(packet)
        else:
            self._refused.setdefault(index, []).append(at * base)

    def finish(self) -> VideoOutcome:
        if self._good is None:
            raise VideoFileError('has no frame that can be decoded')
        self._output.mux(self._stream.encode(None))
        for rehearsal in self._rehearsals.values():
            rehearsal.close()
        if self._holes:
            self.outcome.problems.append(
                f'{self._counted(self._holes, "could not be decoded")}; the last good picture is shown instead'
            )
        if self._transparent:
            self.outcome.notes.append(
                f'{self._counted(self._transparent, "are not opaque")}: the result cannot hold transparency, so hidden '
                'colours are visible; to keep transparency, extract the frames as PNG and restore the folder'
            )
        interlaced = self.reader.deinterlacer.interlaced
        if interlaced:
            self.outcome.notes.append(f'{interlaced} frames are interlaced: deinterlaced, one frame for each')
        self.outcome.notes += [f'left out: {what}' for what in sorted(self._lost)]
        for index, times in self._refused.items():
            self.outcome.problems.append(
                f'{len(times)} packets of {self._copies[index].type} stream {index} cannot be copied and are left out, '
                f'the first at {self._seconds(times[0])}'
            )
        self._report_jumps()
        self.outcome.notes += [] if self._wanted.part is None else self._wanted.part.notes
        if not self._is_cut and (self._wanted.part is None or self._wanted.part.end is None):
            self._report_early_end()
        return self.outcome

    def end_early(self, item: TimedFrame, reason: str) -> None:
        """Ends the result before a frame that cannot be part of it."""
        self._is_cut = True
        self.outcome.problems.append(
            f'{reason} (at {self._seconds(item.time * self._video.time_base)}; restored up to there)'
        )

    def _counted(self, times: list[int], what: str) -> str:
        first = self._seconds(times[0] * self._video.time_base)
        return f'{len(times)} frame{"s" if len(times) > 1 else ""} {what}, the first at {first}'

    def _seconds(self, time: Fraction) -> str:
        return f'{float(time - self._file_start):.2f} s'

    def _report_jumps(self) -> None:
        jumps = self.reader.timeline.jumps
        if jumps:
            listed = ', '.join(f'{self._seconds(jump.time)} ({float(jump.step):+.2f} s)' for jump in jumps[:5])
            more = f' and {len(jumps) - 5} more' if len(jumps) > 5 else ''
            self.outcome.notes.append(f'its times jump at {listed}{more}: the result continues there without a gap')

    def _report_early_end(self) -> None:
        reason = early_end(self.reader, self._video, self._container)
        if reason is not None:
            self.outcome.problems.append(f'{reason}; restored up to there')

    def _picture_stream(self) -> VideoStream:
        source_size, scale, size = self._video.upright_size, self._restorer.scale, self._wanted.size
        height, width = (each * scale for each in source_size)
        if size is not None:
            height, width = size.of(*source_size, even=True)
            self.outcome.notes += size.notes(*source_size, scale, self._video.pixel_aspect)
        self._size = height, width
        if height % 2 or width % 2:
            self.outcome.notes.append(
                f'{width}x{height} is odd, but 4:2:0 needs even sizes: a line was repeated at the border'
            )
        height, width = height + height % 2, width + width % 2
        if -(-height // 16) * -(-width // 16) > _LARGEST:
            raise VideoFileError(
                f'frames would be {width}x{height}, more than a video can hold ({_LARGEST * 256:,} pixels); '
                'extract the frames as pictures and restore the folder'
            )
        encoder = self._wanted.coding.encoder(
            is_deep=self._is_deep,
            mastering_display=self._video.mastering_display,
            content_light=self._video.content_light,
        )
        added: Any = self._output.add_stream(encoder.name, rate=self._video.rate, options=encoder.options)
        stream: VideoStream = added
        coding = stream.codec_context
        coding.width, coding.height = width, height
        coding.thread_type = 'FRAME'  # PyAV's own is slices of a frame: worse pictures of the same size, and slower
        coding.pix_fmt = self._pixel_format
        coding.time_base = stream.time_base = self._video.time_base
        aspect = self._video.pixel_aspect
        coding.sample_aspect_ratio = aspect if size is None else size.pixel_aspect(*source_size, aspect)
        coding.colorspace, coding.color_range = self._matrix, self._video.color_range
        coding.color_primaries, coding.color_trc = self._video.primaries, self._video.transfer
        if encoder.tag is not None:
            coding.codec_tag = encoder.tag
        self.outcome.notes += encoder.notes
        return stream

    def _encodable(self, restored: NDArray[Any]) -> VideoFrame:
        video = self._video
        matrix = MATRICES[self._matrix]
        restored = _even(resampled(restored, self._size))
        result = self._av.VideoFrame.from_ndarray(restored, format=self._packed)
        result = from_rgb(result, self._pixel_format, matrix, video.color_range)
        result.colorspace, result.color_range = self._matrix, video.color_range
        set_primaries_and_transfer(result, video.primaries, video.transfer)
        return result

    def _encode(self, item: TimedFrame) -> None:
        assert self._good is not None
        frame = self._good
        frame.time_base = self._video.time_base
        frame.pts = item.time - round(self._start / self._video.time_base)
        set_frame_duration(frame, item.duration)
        frame.pict_type = 0  # let the encoder choose
        self._output.mux(self._stream.encode(frame))
        self.outcome.frames += 1

    def _note_left_out(self, source: VideoStream, container: InputContainer, refused: Refused, suffix: str) -> None:
        for stream in sound_for_other_suffix(refused, suffix):
            self.outcome.problems.append(f'its sound (audio stream {stream.index}) cannot be copied into {suffix}')
        self.outcome.notes += notes_on_refused(refused, suffix)
        for stream in container.streams:
            if stream.index != source.index and stream.type not in ('audio', 'subtitle', 'attachment'):
                name = 'the cover picture, ' if stream.type == 'video' and is_cover(stream) else ''
                self.outcome.notes.append(f'left out: {name}{stream.type} stream {stream.index}')
        if self._video.hides_transparency:
            self.outcome.notes.append(
                f'left out: the transparency of video stream {source.index}, which the decoder does not return; hidden '
                'colours are visible'
            )


def _muxing(suffix: str) -> dict[str, str]:
    return {'movflags': '+faststart'} if suffix == '.mp4' else {}  # it can play during the download


def _is_opaque(frame: VideoFrame) -> bool:
    deep = any(each.is_alpha and each.bits > 8 for each in frame.format.components)
    alpha = to_rgb(frame, 'rgba64le' if deep else 'rgba', _BT709, _FULL_RANGE).to_ndarray()[
        ..., 3
    ]  # alpha is the same for any matrix
    # the highest value of fewer bits may be scaled to less than the maximum
    return bool(alpha.min() >= (65535 - 256 if deep else 255))


def _even(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    return np.ascontiguousarray(pixels)
