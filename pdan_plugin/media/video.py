"""Restores videos frame by frame; times and sound are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.pyav import (
    from_rgb,
    import_av,
    open_container,
    set_frame_duration,
    set_primaries_and_transfer,
    to_rgb,
)
from pdan_plugin.media.video_frames import FrameReader, TimedFrame
from pdan_plugin.media.video_source import (
    MATRICES,
    SourceVideo,
    VideoFileError,
    VideoHeader,
    copied_streams,
    open_video,
    picture_stream,
    read_video_header,
)

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


_QUALITY = '14'  # constant rate factor: visually lossless
_LARGEST = 139264  # blocks of 16x16 in a frame: the limit of level 6.2 of H.264 and H.265
_BT709, _FULL_RANGE = 1, 2
_CONTAINER_TAGS = ('major_brand', 'minor_version', 'compatible_brands', 'encoder', 'duration')


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
) -> VideoOutcome:
    """Restores a video into ``target``, .mp4 or .mkv, which appears when it is complete.

    Pictures become H.264 in 4:2:0, or H.265 if they have more than 8 bits. Frame times are exactly those of the source;
    the pixels are rotated upright. Sound and subtitles are copied. The last good frame replaces a frame that cannot be
    decoded, so that sound and picture stay in sync.

    Args:
        on_frame: Called with (frames written, frames in total or 0 if unknown).
        on_tile: As in :meth:`PictureRestorer.restore_picture`.
        header: The source's header, if it was read already; it is read again if the file has changed since.

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
    refused = {stream.index for stream in header.refused[suffix]}
    try:
        with (
            written_whole(target) as unfinished,
            open_video(source) as container,
            open_container(str(unfinished), 'w', options=_muxing(suffix)) as output,
        ):
            writer = _Writer(av, video, restorer, container, output, refused, on_tile)
            for item in writer.reader:
                if isinstance(item, TimedFrame):
                    writer.add(item)
                    if on_frame is not None:
                        on_frame(writer.outcome.frames, video.frames)
                else:
                    writer.copy(item)
            outcome = writer.finish()
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f'cannot be written: {error.strerror}', str(target)) from error
        raise VideoFileError(f'cannot be written as {target.suffix}: {error}') from error
    return outcome


class _Writer:
    """Restores frames and writes the streams of the result."""

    def __init__(
        self,
        av: Any,
        video: SourceVideo,
        restorer: PictureRestorer,
        container: InputContainer,
        output: OutputContainer,
        refused: set[int],
        on_tile: Callable[[int, int], None] | None,
    ) -> None:
        self.outcome = VideoOutcome()
        self._av, self._video, self._restorer, self._output, self._on_tile = av, video, restorer, output, on_tile
        self._container = container
        self._start = Fraction(container.start_time or 0, av.time_base)  # every result starts at 0
        self._is_deep = video.bits > 8
        self._pixel_format = 'yuv420p10le' if self._is_deep else 'yuv420p'
        self._matrix = video.matrix if video.matrix in MATRICES else _BT709
        source = picture_stream(container)
        kept = [stream for stream in copied_streams(container) if stream.index not in refused]
        self.reader = FrameReader(container, source, kept, video.rate)
        self._stream = self._picture_stream(source)
        self._copies = {stream.index: self._copy_of(stream) for stream in kept}
        tags = {key: value for key, value in container.metadata.items() if key.lower() not in _CONTAINER_TAGS}
        output.metadata.update(tags)
        self._good: VideoFrame | None = None
        self._waiting: list[TimedFrame] = []  # missing frames before the first good one
        self._holes: list[int] = []
        self._transparent: list[int] = []  # times of frames that are not opaque
        self._note_left_out(source, container, refused)

    def add(self, item: TimedFrame) -> None:
        if item.frame is None:
            self._holes.append(item.time)
            if self._good is None:
                self._waiting.append(item)
                return
        else:
            if self._video.may_be_transparent and not _is_opaque(item.frame):
                self._transparent.append(item.time)
            self._good = self._restored(item.frame)
            for hole in self._waiting:
                self._encode(hole)
            self._waiting.clear()
        self._encode(item)

    def copy(self, packet: Any) -> None:
        shift = round(self._start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self._copies[packet.stream.index]
        self._output.mux(packet)

    def finish(self) -> VideoOutcome:
        if self._good is None:
            raise VideoFileError('has no frame that can be decoded')
        self._output.mux(self._stream.encode(None))
        if self._holes:
            self.outcome.problems.append(
                f'{self._counted(self._holes, "could not be decoded")}; the last good picture is shown instead'
            )
        if self._transparent:
            self.outcome.notes.append(
                f'{self._counted(self._transparent, "are not opaque")}: the result cannot hold transparency, so hidden '
                'colours are visible; to keep transparency, extract the frames as PNG and restore the folder'
            )
        self._report_early_end()
        return self.outcome

    def _counted(self, times: list[int], what: str) -> str:
        first = float(times[0] * self._video.time_base - self._start)
        return f'{len(times)} frame{"s" if len(times) > 1 else ""} {what}, the first at {first:.2f} s'

    def _report_early_end(self) -> None:
        """Compares the ends of the pictures and of all streams with those in the header."""
        base, container, stream = self._video.time_base, self._container, self.reader.stream
        ended, latest = self.reader.end * base, self.reader.latest
        ends = [(ended, ((stream.start_time or 0) + stream.duration) * base)] if stream.duration else []
        if container.duration:
            ends.append((latest, self._start + Fraction(container.duration, self._av.time_base)))
        tolerance = max(Fraction(1, 10), 2 / self._video.rate)
        lengths = [expected - self._start for found, expected in ends if expected - found > tolerance]
        if lengths or self.reader.broke_off:
            length = f' of {float(max(lengths)):.2f} s' if lengths else ''
            why = f' ({self.reader.broke_off})' if self.reader.broke_off else ''
            self.outcome.problems.append(
                f'the file ends early, at {float(ended - self._start):.2f} s{length}{why}; restored up to there'
            )

    def _picture_stream(self, source: VideoStream) -> VideoStream:
        height, width = (size * self._restorer.scale for size in self._video.upright_size)
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
        uses_h265 = self._is_deep
        options = {'crf': _QUALITY, **({'x265-params': 'log-level=error'} if uses_h265 else {})}
        stream = self._output.add_stream('libx265' if uses_h265 else 'libx264', rate=self._video.rate, options=options)
        coding = stream.codec_context
        coding.width, coding.height = width, height
        coding.pix_fmt = self._pixel_format
        coding.time_base = stream.time_base = self._video.time_base
        coding.sample_aspect_ratio = self._video.pixel_aspect
        coding.colorspace, coding.color_range = self._matrix, self._video.color_range
        coding.color_primaries, coding.color_trc = self._video.primaries, self._video.transfer
        if uses_h265:
            coding.codec_tag = 'hvc1'  # Apple's players need this tag
        stream.metadata.update({key: value for key, value in source.metadata.items() if key == 'language'})
        return stream

    def _copy_of(self, stream: Stream) -> Stream:
        copy = self._output.add_stream_from_template(stream)
        copy.metadata.update({key: value for key, value in stream.metadata.items() if key in ('language', 'title')})
        return copy

    def _restored(self, frame: VideoFrame) -> VideoFrame:
        video = self._video
        if (frame.width, frame.height) != (video.width, video.height):
            raise VideoFileError(
                f'changes its size from {video.width}x{video.height} to {frame.width}x{frame.height}; cut the video '
                'where the size changes'
            )
        packed = 'rgb48le' if self._is_deep else 'rgb24'
        matrix = MATRICES[self._matrix]
        source = to_rgb(frame, packed, matrix, video.color_range)
        pixels = np.ascontiguousarray(np.rot90(source.to_ndarray(), video.rotation))
        restored = _even(self._restorer.restore_picture(pixels, self._on_tile))
        result = self._av.VideoFrame.from_ndarray(restored, format=packed)
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

    def _note_left_out(self, source: VideoStream, container: InputContainer, refused: set[int]) -> None:
        for stream in container.streams:
            if stream.index == source.index or stream.index in self._copies:
                continue
            name = f'{stream.type} stream {stream.index}'
            if stream.index in refused and stream.type == 'audio':
                self.outcome.problems.append(f'its sound ({name}) cannot be copied into this file format')
            else:
                self.outcome.notes.append(f'left out: {name}')
        if self._video.hides_transparency:
            self.outcome.notes.append(
                f'left out: the transparency of video stream {source.index}, which the decoder does not return; hidden '
                'colours are visible'
            )
        if self._video.is_interlaced:
            self.outcome.notes.append('is interlaced: each frame shows two points in time; deinterlace it first')


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
