"""What a video file is: its picture stream as it is to be seen, and which result can hold its sound.

Needs PyAV, which is asked for when a video is.
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

# ITU-T H.273's numbers of the matrix between RGB and YCbCr, and swscale's numbers for them
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_RGB, _UNSPECIFIED, _BT709, _BT601 = 0, 2, 1, 6
_HD_HEIGHT = 720  # from which players take an untagged video for BT.709


class VideoFileError(ValueError):
    """A file that cannot be restored as a video; says what is wrong with it, not which file it is."""


@dataclass(frozen=True)
class SourceVideo:
    """A video's picture stream.

    Attributes:
        width, height: As stored, before rotation.
        rotation: Quarter turns counter-clockwise that make it upright, 0 to 3.
        bits: A colour channel, 8 or more.
        matrix: Of ``MATRICES``; where the file does not say, what players take it for. RGB is 0.
        color_range: 1 for 16..235, 2 for 0..255.
        primaries, transfer: H.273's numbers, 2 where the file does not say.
        pixel_aspect: Width of a pixel to its height, after rotation.
        rate: Frames per second, mean.
        time_base: Seconds a tick.
        frames: About how many; 0 if unknown.
        is_interlaced: Whether a frame holds two moments.
        may_be_transparent: Whether its frames, as they are decoded, can say how opaque each pixel is.
        hides_transparency: Whether the file says that it holds transparency, and its decoder gives none (VP8, VP9).
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
    """An open container; to be closed by the caller.

    Raises:
        VideoFileError: Empty, or no video that can be opened.
        OSError: It cannot be read.
    """
    if path.exists() and not path.is_file():
        raise VideoFileError('is a pipe, a socket or a device; only files are restored')
    if path.stat().st_size == 0:
        raise VideoFileError('is empty (0 bytes)')
    av = import_av()
    with path.open('rb'):  # a file that may not be read is told as such
        pass
    try:
        return open_container(str(path))
    except av.FFmpegError as error:
        raise VideoFileError(f'cannot be opened as a video: {error.strerror}') from error


def picture_stream(container: InputContainer) -> VideoStream:
    """The first stream of moving pictures; a cover is none.

    Raises:
        VideoFileError: There is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & type(stream.disposition).attached_pic and stream.codec_context is not None:
            stream.thread_type = 'SLICE'  # threads over frames tell of a broken frame too late to say which it was
            return stream
    raise VideoFileError('holds no video, at most sound')


@dataclass(frozen=True)
class RefusedStream:
    """What is to be known of a stream after its file is closed."""

    index: int
    type: str
    codec: str


@dataclass(frozen=True)
class VideoHeader:
    """What a video file says of itself; read once, it goes along with the work on the file.

    Attributes:
        video: Its picture stream; None where that cannot be restored.
        problem: Why it cannot be restored; None where it can.
        refused: For each ending of a result, the streams of sound and subtitles that such a result cannot hold.
        stamp: The file's size and time of change when it was read.
    """

    video: SourceVideo | None
    problem: str | None
    refused: dict[str, list[RefusedStream]]
    stamp: tuple[int, int]

    @property
    def suffix(self) -> str:
        """The ending of the result in a folder: .mp4, or .mkv where the sound or subtitles need it."""
        return '.mkv' if self.refused['.mp4'] else '.mp4'

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) after rotation; None where the pictures cannot be restored."""
        return None if self.video is None else self.video.upright_size

    def is_of(self, path: Path) -> bool:
        """Whether the file is still the one that was read."""
        return _stamp(path) == self.stamp


def read_video_header(path: Path) -> VideoHeader:
    """Looks at a video's header and at the first frame that can be decoded, and tries which result holds its sound.

    Raises:
        VideoFileError: It cannot be opened.
        OSError: It cannot be read.
    """
    av = import_av()
    video, problem = None, None
    with open_video(path) as container:
        stamp = _stamp(path)
        refused = {suffix: _refused(container, suffix) for suffix in WRITTEN_VIDEO_SUFFIXES}
        try:
            video = _describe(av, container)
        except (OSError, ValueError, RuntimeError) as error:  # reported when its turn comes, and stops no other
            problem = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return VideoHeader(video, problem, refused, stamp)


def copied_streams(container: InputContainer) -> list[Stream]:
    """What goes into the result as it is: sound and subtitles."""
    return [stream for stream in container.streams if stream.type in ('audio', 'subtitle')]


def _describe(av: Any, container: InputContainer) -> SourceVideo:
    """The picture stream by the file's header and by the first frame that can be decoded."""
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
        raise VideoFileError(f'has colours by matrix {matrix} of H.273, which is not converted; convert it to BT.709')
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
    """Those of `copied_streams` that a result of this ending cannot hold, by trying."""
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
            trial.start_encoding()  # writes the header, where muxers refuse what they cannot hold
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
    raise VideoFileError('holds no frame that can be decoded')
