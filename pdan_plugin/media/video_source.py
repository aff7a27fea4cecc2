"""Reads the header of a video file: its picture stream, and the result formats that can hold its sound.

Needs PyAV, which is imported when a video is read.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.pyav import import_av, open_container, primaries_and_transfer

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.ts', '.webm')
WRITTEN_VIDEO_SUFFIXES = ('.mp4', '.mkv')

# ITU-T H.273's number of a matrix between RGB and YCbCr -> swscale's number
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_RGB, _UNSPECIFIED, _BT709, _BT601 = 0, 2, 1, 6
_HD_HEIGHT = 720  # players assume BT.709 for an untagged video from this height on


class VideoFileError(ValueError):
    """A file cannot be restored as a video. The message gives the reason, not the file's name."""


@dataclass(frozen=True)
class SourceVideo:
    """The picture stream of a video.

    Attributes:
        width, height: As stored, before rotation.
        rotation: Quarter turns counter-clockwise that make it upright, 0 to 3.
        bits: Bits per channel, 8 or more.
        matrix: A key of ``MATRICES``; if the file has none, the one that players assume. RGB is 0.
        color_range: 1 for 16..235, 2 for 0..255.
        primaries, transfer: H.273's numbers, 2 if unspecified.
        pixel_aspect: Width of a pixel divided by its height, after rotation.
        rate: Mean frames per second.
        time_base: Seconds per tick.
        frames: Approximate number of frames; 0 if unknown.
        is_interlaced: Whether a frame shows two points in time.
        may_be_transparent: Whether the decoded frames have alpha or a palette.
        hides_transparency: Whether the file has transparency that its decoder does not return (VP8, VP9).
    """

    width: int
    height: int
    rotation: int
    bits: int
    matrix: int
    color_range: int
    primaries: int
    transfer: int
    pixel_aspect: Fraction
    rate: Fraction
    time_base: Fraction
    frames: int
    is_interlaced: bool
    may_be_transparent: bool = False
    hides_transparency: bool = False

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) after rotation."""
        return (self.width, self.height) if self.rotation % 2 else (self.height, self.width)


def open_video(path: Path) -> InputContainer:
    """Opens a container; the caller closes it.

    Raises:
        VideoFileError: The file is empty, or cannot be opened as a video.
        OSError: The file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise VideoFileError('is a pipe, a socket or a device; only files are restored')
    if path.stat().st_size == 0:
        raise VideoFileError('is empty (0 bytes)')
    av = import_av()
    with path.open('rb'):  # raises PermissionError if the file may not be read
        pass
    try:
        return open_container(str(path))
    except av.FFmpegError as error:
        raise VideoFileError(f'cannot be opened as a video: {error.strerror}') from error


def picture_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        VideoFileError: There is no such stream.
    """
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic and stream.codec_context is not None:
            stream.thread_type = 'SLICE'  # frame threads report a broken frame too late to know which one it was
            return stream
    raise VideoFileError('has no video stream')


@dataclass(frozen=True)
class RefusedStream:
    """A stream that a result cannot hold; usable after the file is closed."""

    index: int
    type: str
    codec: str


@dataclass(frozen=True)
class VideoHeader:
    """The header of a video file, read once and passed on with the job.

    Attributes:
        video: The picture stream; None if it cannot be restored.
        problem: Why it cannot be restored; None if it can.
        refused: Ending of a result -> the sound and subtitle streams that such a result cannot hold.
        stamp: The file's size and modification time when it was read.
    """

    video: SourceVideo | None
    problem: str | None
    refused: dict[str, list[RefusedStream]]
    stamp: tuple[int, int]

    @property
    def suffix(self) -> str:
        """The ending of the result in a folder: .mp4, or .mkv if sound or subtitles need it."""
        return '.mkv' if self.refused['.mp4'] else '.mp4'

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) after rotation; None if the pictures cannot be restored."""
        return None if self.video is None else self.video.upright_size

    def is_of(self, path: Path) -> bool:
        """Whether the file has not changed since it was read."""
        return _stamp(path) == self.stamp


def read_video_header(path: Path) -> VideoHeader:
    """Reads a video's header and first decodable frame, and tries which result formats can hold its sound.

    Raises:
        VideoFileError: The file cannot be opened.
        OSError: The file cannot be read.
    """
    av = import_av()
    video, problem = None, None
    with open_video(path) as container:
        stamp = _stamp(path)
        refused = {suffix: _refused(container, suffix) for suffix in WRITTEN_VIDEO_SUFFIXES}
        try:
            video = _describe(av, container)
        except (OSError, ValueError, RuntimeError) as error:  # reported when its job runs; other files are restored
            problem = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return VideoHeader(video, problem, refused, stamp)


def copied_streams(container: InputContainer) -> list[Stream]:
    """The streams to copy into the result: sound and subtitles."""
    return [stream for stream in container.streams if stream.type in ('audio', 'subtitle')]


def _describe(av: Any, container: InputContainer) -> SourceVideo:
    """Describes the picture stream from the header and the first decodable frame."""
    stream = picture_stream(container)
    frame = _first_frame(av, container, stream)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    time_base = Fraction(stream.time_base or Fraction(1, 1000))
    ends = stream.duration * time_base if stream.duration else Fraction(container.duration or 0, av.time_base)
    turned = round(frame.rotation / 90) % 4
    aspect = stream.sample_aspect_ratio or Fraction(1)
    height = frame.width if turned % 2 else frame.height
    is_rgb = frame.format.is_rgb
    may_be_transparent = frame.format.has_palette or any(each.is_alpha for each in frame.format.components)
    tags = stream.metadata
    primaries, transfer = primaries_and_transfer(frame, stream.codec_context)
    matrix = int(frame.colorspace)
    if is_rgb:
        matrix = _RGB
    elif matrix in (_UNSPECIFIED, _RGB):
        matrix = _BT709 if height >= _HD_HEIGHT else _BT601
    if not is_rgb and matrix not in MATRICES:
        raise VideoFileError(f'uses colour matrix {matrix} of H.273, which is not supported; convert it to BT.709')
    is_full = int(frame.color_range) == 2 or is_rgb or frame.format.name.startswith('yuvj')
    return SourceVideo(
        width=frame.width,
        height=frame.height,
        rotation=turned,
        bits=max(component.bits for component in frame.format.components),
        matrix=matrix,
        color_range=2 if is_full else 1,
        primaries=primaries,
        transfer=transfer,
        pixel_aspect=1 / aspect if turned % 2 else Fraction(aspect),
        rate=Fraction(rate),
        time_base=time_base,
        frames=stream.frames or round(ends * rate),
        is_interlaced=frame.interlaced_frame,
        may_be_transparent=may_be_transparent,
        hides_transparency=not may_be_transparent and '1' in (tags.get('alpha_mode'), tags.get('ALPHA_MODE')),
    )


def _refused(container: InputContainer, suffix: str) -> list[RefusedStream]:
    """The `copied_streams` that a result with this ending cannot hold, found by trying."""
    return [
        RefusedStream(stream.index, stream.type, stream.codec_context.name if stream.codec_context else 'unknown')
        for stream in copied_streams(container)
        if not _can_hold(suffix, stream)
    ]


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _can_hold(suffix: str, stream: Stream) -> bool:
    av = import_av()
    try:
        with open_container(io.BytesIO(), 'w', format='mp4' if suffix == '.mp4' else 'matroska') as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()  # writes the header: muxers raise here if they cannot hold a stream
    except (av.FFmpegError, ValueError):
        return False
    return True


def _first_frame(av: Any, container: InputContainer, stream: VideoStream) -> VideoFrame:
    try:
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    if not frame.is_corrupt:
                        return frame
            except av.FFmpegError:
                continue
    except av.FFmpegError as error:
        raise VideoFileError(f'cannot be decoded: {error.strerror}') from error
    raise VideoFileError('has no frame that can be decoded')
