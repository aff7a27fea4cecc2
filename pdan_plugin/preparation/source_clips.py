"""Source clips: videos, folders of numbered frames, or REDS's zips. Each is read in sequence, from any frame on.

Frames are (h, w, 3) uint8 RGB; positions in a clip begin at 0. A clip holds no open file, so it can be sent to another
process. The files themselves stay open in the process that reads them, because a video can only be read in sequence.
"""

from __future__ import annotations

import functools
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pdan_plugin.data.frame_codec import PictureError, decode_picture, picture_shape
from pdan_plugin.data.frame_sources import FrameArchive
from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import digest_of
from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.orientation import is_sideways, upright
from pdan_plugin.media.picture_files import PictureFileError, stored_orientation
from pdan_plugin.media.video_frames import FrameReader
from pdan_plugin.media.video_source import SourceVideo, VideoFileError, open_video, picture_stream, upright_rgb

if TYPE_CHECKING:
    from av.container import InputContainer

FRAME_SUFFIXES = ('.png', '.jpg', '.jpeg')

_VIDEO_HEAD = 1 << 20
_HEAD = 1 << 18  # a JPEG's size comes after the camera's metadata, which can be long


@dataclass(frozen=True)
class SourceClip(ABC):
    """One clip.

    Attributes:
        name: First part of its frames' keys; no dot, space or slash.
        place: Its path, for messages.
        frames: Number of frames.
        first: Number of the first frame: from its file name, 0 for a video.
        size: (height, width).
        digest: Identifies the clip wherever it is stored: a digest of its frames' names and first frame, or of a
            video's length and beginning. It does not cover later frames, so that a damaged one can be replaced.
        breaks: Positions of frames that do not follow the frame before, whatever they show: joined recordings.
    """

    name: str
    place: str
    frames: int
    first: int
    size: tuple[int, int]
    digest: str
    breaks: frozenset[int] = field(default=frozenset(), kw_only=True)

    @abstractmethod
    def _frames_at(self, positions: Iterable[int]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields each frame after its place, which messages name."""

    def read(self, positions: Iterable[int]) -> Iterator[np.ndarray]:
        """Yields the frames at these ascending positions, (h, w, 3) uint8 RGB, reading one at a time.

        Raises:
            RequestError: A frame cannot be read, or its size is not the clip's; the error names it.
        """
        for place, frame in self._frames_at(positions):
            if frame.shape != (*self.size, 3):
                raise RequestError(
                    f'{place}: is {frame.shape[1]}x{frame.shape[0]}, expected {self.size[1]}x{self.size[0]} like the '
                    'rest of its clip'
                )
            yield frame


@dataclass(frozen=True)
class FrameFiles(SourceClip):
    """A folder of numbered PNG or JPEG files.

    Attributes:
        folder: The folder.
        files: The file names, in order.
    """

    folder: Path
    files: tuple[str, ...]

    def _frames_at(self, positions: Iterable[int]) -> Iterator[tuple[str, np.ndarray]]:
        for position in positions:
            file = self.folder / self.files[position]
            yield str(file), read_frame_file(file)


@dataclass(frozen=True)
class ArchivedFrames(SourceClip):
    """A clip in REDS's zips; it may be spread over several of them.

    Attributes:
        set_name: The set in the zips, such as ``train_orig``.
        members: (zip, key in it) of each frame.
    """

    set_name: str
    members: tuple[tuple[Path, str], ...]

    def _frames_at(self, positions: Iterable[int]) -> Iterator[tuple[str, np.ndarray]]:
        for position in positions:
            path, key = self.members[position]
            archive = open_archive(path, self.set_name)
            yield archive.name_of(key), archive.read(key)


@dataclass(frozen=True)
class Video(SourceClip):
    """A video file.

    Attributes:
        path: The file.
        video: Its header.
    """

    path: Path
    video: SourceVideo

    def _frames_at(self, positions: Iterable[int]) -> Iterator[tuple[str, np.ndarray]]:
        global _last_reader
        for position in positions:
            if _last_reader is None or _last_reader.path != self.path or _last_reader.next > position:
                forget_video()
                _last_reader = _VideoReader(self.path, self.video)
            yield f'{self.path}, frame {position}', _last_reader.read(position)


class _VideoReader:
    """An open video and its position. Seeking in a video is not exact, so it reads forward frame by frame."""

    def __init__(self, path: Path, video: SourceVideo) -> None:
        self.path = path
        self.next = 0
        self._video = video
        with refusing_video(path):
            self.container = open_video(path)
            self._frames = whole_frames(video_reader(self.container, video, threads=1))

    def read(self, position: int) -> np.ndarray:
        with refusing_video(f'{self.path}, frame {position}'):
            for item in self._frames:
                self.next += 1
                if self.next > position and item.frame is not None:
                    return upright_rgb(item.frame, self._video, 'rgb24')
        raise RequestError(f'{self.path}: frame {position} cannot be read, but the file had it at the start')


# Kept between runs of windows: a process gets consecutive runs of a film and so decodes it once.
_last_reader: _VideoReader | None = None


def forget_open_files() -> None:
    """Close the files this process has open: they may have been replaced since."""
    forget_video()
    open_archive.cache_clear()


def forget_video() -> None:
    """Close the video this process has open."""
    global _last_reader
    if _last_reader is not None:
        _last_reader.container.close()
    _last_reader = None


@contextmanager
def refusing_video(place: str | Path) -> Iterator[None]:
    """An error of a video file becomes a RequestError that names it."""
    try:
        yield
    except VideoFileError as error:
        raise RequestError(f'{place}: {error}; give a video file that FFmpeg reads, or its frames') from error
    except OSError as error:
        raise RequestError(f'{place}: cannot be read ({error.strerror})') from error


def video_reader(container: InputContainer, video: SourceVideo, threads: int = 0) -> FrameReader:
    """The reader of an open video's pictures; with 0 threads FFmpeg chooses their number."""
    return FrameReader(container, picture_stream(container, threads), [], video.rate)


def whole_frames(reader: FrameReader) -> Iterator[TimedFrame]:
    """The frames of a video without those that cannot be decoded."""
    return (item for item in reader if isinstance(item, TimedFrame) and item.frame is not None)


@functools.lru_cache(maxsize=64)
def open_archive(path: Path, set_name: str) -> FrameArchive:
    """The zip, opened once per process."""
    return FrameArchive(path, set_name)


def read_frame_file(file: Path) -> np.ndarray:
    """A whole PNG or JPEG, (h, w, 3) uint8 RGB, upright by its EXIF or XMP.

    Raises:
        RequestError: It cannot be read, is truncated or damaged, or does not have three 8-bit channels.
    """
    data = _bytes_of(file)
    try:
        stored = _decode_jpeg(data) if data[:2] == b'\xff\xd8' else decode_picture(data)
        return upright(stored, stored_orientation(data))
    except (PictureError, PictureFileError) as error:
        raise RequestError(f'{file}: {error}') from error


def frame_file_header(file: Path) -> tuple[tuple[int, int], int]:
    """(height, width) of a PNG or JPEG as it is shown, and its orientation, 1 to 8, from its header.

    Raises:
        RequestError: As `read_frame_file`, for faults visible in the header.
    """
    data = _bytes_of(file, _HEAD)
    try:
        height, width = _jpeg_size(data) if data[:2] == b'\xff\xd8' else picture_shape(data)[:2]
        orientation = stored_orientation(data)
    except (PictureError, PictureFileError) as error:
        raise RequestError(f'{file}: {error}') from error
    return ((width, height) if is_sideways(orientation) else (height, width)), orientation


def frames_digest(names: Iterable[str], first_frame: np.ndarray) -> str:
    """Digest of a clip of single frames: of their names and the first frame's pixels."""
    return digest_of('\n'.join(names).encode(), np.ascontiguousarray(first_frame).data)


def video_digest(path: Path) -> str:
    """Digest of a video: of its file size and its first megabyte."""
    with path.open('rb') as file:
        return digest_of(f'{path.stat().st_size}\n'.encode(), file.read(_VIDEO_HEAD))


def _bytes_of(file: Path, count: int = -1) -> bytes:
    try:
        with file.open('rb') as opened:
            return opened.read(count)
    except OSError as error:
        raise RequestError(f'{file}: cannot be read ({error.strerror})') from error


def _decode_jpeg(data: bytes) -> np.ndarray:
    # In coded data FF is always followed by 00 or a restart marker, so the last FFD9 found is a real end marker.
    if data.rfind(b'\xff\xd9') < data.rfind(b'\xff\xda'):
        raise PictureError(f'is a truncated JPEG ({len(data)} bytes)')
    frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if frame is None or frame.shape[:2] != _jpeg_size(data):
        raise PictureError('is a damaged JPEG')
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        mark, length = struct.unpack('>BH', data[position + 1 : position + 4])
        if mark == 0xFF:  # padding
            position += 1
            continue
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):  # any start-of-frame marker
            height, width, channels = struct.unpack('>HHB', data[position + 5 : position + 10])
            if channels != 3:
                raise PictureError(f'is a JPEG of {channels} channels, expected RGB')
            return height, width
        position += 2 + length
    raise PictureError('is a damaged JPEG (no size in it)')
