"""Reads the header of a video file: its picture stream, and the result formats that can hold its sound.

Needs PyAV, which is imported when a video is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pdan_plugin.files.other_contents import HEAD, what_else
from pdan_plugin.media.hdr_metadata import content_light, mastering_display
from pdan_plugin.media.mp4_boxes import lacks_index
from pdan_plugin.media.orientation import is_sideways, orientation_of_display_matrix, upright
from pdan_plugin.media.pyav import (
    exact,
    import_av,
    open_container,
    packets_of,
    primaries_and_transfer,
    side_data_of,
    to_rgb,
)
from pdan_plugin.media.video_containers import Refused, best_suffix, is_cover, refused_streams

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# The endings of videos for all commands. A video with another ending is found by its content.
VIDEO_SUFFIXES = (
    '.264', '.265', '.3g2', '.3gp', '.asf', '.avc', '.avi', '.divx', '.dv', '.f4v', '.flv', '.gxf', '.h264',
    '.h265', '.hevc', '.ivf', '.m1v', '.m2p', '.m2t', '.m2ts', '.m2v', '.m4v', '.mj2', '.mjpeg', '.mjpg', '.mkv',
    '.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.mxf', '.nut', '.obu', '.ogm', '.ogv', '.qt', '.rm', '.rmvb', '.tp',
    '.trp', '.ts', '.vob', '.webm', '.wmv', '.wtv', '.y4m',
)  # fmt: skip

# ITU-T H.273's number of a matrix between RGB and YCbCr -> swscale's number
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_RGB, _UNSPECIFIED, _BT709, _BT601 = 0, 2, 1, 6
_HIGHEST_RATE = 1000  # for a raw DV file FFmpeg reports its ticks per second, 60000, as the mean rate
_HD_HEIGHT = 720  # players assume BT.709 for an untagged video from this height on


class VideoFileError(ValueError):
    """A file cannot be restored as a video. The message gives the reason, not the file's name."""


@dataclass(frozen=True)
class SourceVideo:
    """The picture stream of a video.

    Attributes:
        width, height: As stored.
        orientation: 1 to 8, as in EXIF: how the stored pictures are turned and mirrored to be upright.
        bits: Bits per channel, 8 or more.
        matrix: A key of ``MATRICES``; if the file has none, the one that players assume. RGB is 0.
        color_range: 1 for 16..235, 2 for 0..255.
        primaries, transfer: H.273's numbers, 2 if unspecified.
        pixel_aspect: Width of a pixel divided by its height, of an upright picture.
        rate: Mean frames per second.
        time_base: Seconds per tick.
        frames: Approximate number of frames; 0 if unknown.
        may_be_transparent: Whether the decoded frames have alpha or a palette.
        hides_transparency: Whether the file has transparency that its decoder does not return (VP8, VP9).
        mastering_display, content_light: HDR10's metadata; None if the video has none.
    """

    width: int
    height: int
    orientation: int
    bits: int
    matrix: int
    color_range: int
    primaries: int
    transfer: int
    pixel_aspect: Fraction
    rate: Fraction
    time_base: Fraction
    frames: int
    may_be_transparent: bool = False
    hides_transparency: bool = False
    mastering_display: str | None = None
    content_light: str | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of an upright picture."""
        return (self.width, self.height) if is_sideways(self.orientation) else (self.height, self.width)

    @property
    def packed(self) -> str:
        """The pixel format of RGB that holds its bits: 8 or 16 a channel."""
        return 'rgb48le' if self.bits > 8 else 'rgb24'


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
        raise VideoFileError(f'cannot be opened as a video: {_unopened(path) or error.strerror}') from error


def _unopened(path: Path) -> str | None:
    """Why FFmpeg knows no video in a file, if its bytes show it."""
    with path.open('rb') as file:
        what = what_else(file.read(HEAD))
        file.seek(0)
        if what is None and lacks_index(file):
            return 'its index (moov) is missing, because its recording or copy broke off; get the whole file'
    return None if what is None else f'it is {what}'


def picture_stream(container: InputContainer, threads: int = 0) -> VideoStream:
    """The first video stream that is not a cover picture, to be decoded by so many threads; with 0 FFmpeg chooses.

    Raises:
        VideoFileError: There is no such stream.
    """
    for stream in container.streams.video:
        if not is_cover(stream) and stream.codec_context is not None:
            stream.codec_context.thread_count = threads
            stream.thread_type = 'SLICE'  # frame threads report a broken frame too late to know which one it was
            return stream
    raise VideoFileError('has no video stream')


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
    refused: Refused
    stamp: tuple[int, int]

    @property
    def suffix(self) -> str:
        """The ending of the result in a folder: .mp4, or .mkv if that can hold more of its sound or subtitles."""
        return best_suffix(self.refused)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of an upright picture; None if the pictures cannot be restored."""
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
    video, problem = None, None
    with open_video(path) as container:
        stamp = _stamp(path)
        refused = refused_streams(container)
        try:
            video = describe_video(container)
        except (OSError, ValueError, RuntimeError) as error:  # reported when its job runs; other files are restored
            problem = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return VideoHeader(video, problem, refused, stamp)


def describe_video(container: InputContainer) -> SourceVideo:
    """Describes the picture stream from the header and the first decodable frame.

    Raises:
        VideoFileError: There is no picture stream, or none of its frames can be decoded or converted.
    """
    av = import_av()
    stream = picture_stream(container)
    frame = _first_frame(av, container, stream)
    rates = (stream.average_rate, stream.guessed_rate)
    rate = next((exact(each) for each in rates if each and each <= _HIGHEST_RATE), Fraction(25))
    time_base = exact(stream.time_base or Fraction(1, 1000))
    ends = stream.duration * time_base if stream.duration else Fraction(container.duration or 0, av.time_base)
    display_matrix = side_data_of(frame, 'DISPLAYMATRIX')
    orientation = 1 if display_matrix is None else orientation_of_display_matrix(display_matrix)
    aspect = exact(stream.sample_aspect_ratio or 1)
    may_be_transparent = frame.format.has_palette or any(each.is_alpha for each in frame.format.components)
    tags = stream.metadata
    primaries, transfer = primaries_and_transfer(frame, stream.codec_context)
    return SourceVideo(
        width=frame.width,
        height=frame.height,
        orientation=orientation,
        bits=max(component.bits for component in frame.format.components),
        matrix=_matrix(frame, height=frame.width if is_sideways(orientation) else frame.height),
        color_range=_color_range(frame),
        primaries=primaries,
        transfer=transfer,
        pixel_aspect=1 / aspect if is_sideways(orientation) else aspect,
        rate=rate,
        time_base=time_base,
        frames=stream.frames or round(ends * rate),
        may_be_transparent=may_be_transparent,
        hides_transparency=not may_be_transparent and '1' in (tags.get('alpha_mode'), tags.get('ALPHA_MODE')),
        mastering_display=mastering_display(frame),
        content_light=content_light(frame),
    )


def upright_rgb(frame: VideoFrame, video: SourceVideo, packed: str) -> NDArray[Any]:
    """The upright pixels of a decoded frame, (h, w, 3 or 4), converted by the frame's own matrix and range.

    Args:
        frame: A progressive frame.
        video: The description of its video.
        packed: ``'rgb24'``, or ``'rgb48le'`` for uint16.

    Raises:
        VideoFileError: The frame has another size than the video, or an unknown matrix.
    """
    matrix = refuse_other_form(frame, video)
    pixels = to_rgb(frame, packed, MATRICES.get(matrix, _BT709), _color_range(frame)).to_ndarray()
    return upright(pixels, video.orientation)


def first_frame(path: Path) -> NDArray[Any]:
    """(h, w, 3) uint8 RGB: the first frame of a video that can be decoded, upright, as stored if it is interlaced.

    Raises:
        VideoFileError: The video cannot be opened or decoded.
        OSError: The file cannot be read.
    """
    av = import_av()
    with open_video(path) as container:
        video = describe_video(container)
    with open_video(path) as container:
        return upright_rgb(_first_frame(av, container, picture_stream(container)), video, 'rgb24')


def refuse_other_form(frame: VideoFrame, video: SourceVideo) -> int:
    """H.273's number of a frame's matrix, 0 for RGB.

    Raises:
        VideoFileError: The frame has another size than the video, or an unknown matrix.
    """
    if (frame.width, frame.height) != (video.width, video.height):
        raise VideoFileError(
            f'changes its size from {video.width}x{video.height} to {frame.width}x{frame.height}; cut the video where '
            'the size changes'
        )
    return _matrix(frame, video.upright_size[0])


def _matrix(frame: VideoFrame, height: int) -> int:
    """H.273's number of a frame's matrix; for an untagged one, that which players assume. RGB is 0."""
    matrix = int(frame.colorspace)
    if frame.format.is_rgb:
        return _RGB
    if matrix in (_UNSPECIFIED, _RGB):
        return _BT709 if height >= _HD_HEIGHT else _BT601
    if matrix not in MATRICES:
        raise VideoFileError(f'uses colour matrix {matrix} of H.273, which is not supported; convert it to BT.709')
    return matrix


def _color_range(frame: VideoFrame) -> int:
    is_full = int(frame.color_range) == 2 or frame.format.is_rgb or frame.format.name.startswith('yuvj')
    return 2 if is_full else 1


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _first_frame(av: Any, container: InputContainer, stream: VideoStream) -> VideoFrame:
    try:
        for packet in packets_of(container, [stream], lambda: None):
            try:
                for frame in packet.decode():
                    if not frame.is_corrupt:
                        return frame
            except av.FFmpegError:
                continue
    except av.FFmpegError as error:
        raise VideoFileError(f'cannot be decoded: {error.strerror}') from error
    raise VideoFileError('has no frame that can be decoded')
