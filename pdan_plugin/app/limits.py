"""What the page takes: sizes of pictures and videos, checked by the header alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import PictureFileError, read_picture_header
from pdan_plugin.media.video_contents import is_video_file
from pdan_plugin.media.video_source import VideoFileError, read_video_header


@dataclass(frozen=True)
class Limits:
    """The largest inputs.

    Attributes:
        megapixels: Of a picture, or of a frame of a video.
        seconds: Of a video.
    """

    megapixels: float = 4.0
    seconds: float = 20.0


@dataclass(frozen=True)
class Upload:
    """A file that the page takes.

    Attributes:
        path: The file.
        is_video: By its content.
        size: (height, width) of an upright picture or frame; before EXIF's orientation for a picture.
        frames: Of a video, approximately; 0 if unknown.
        most_frames: The number at which restoring a video stops with an error; 0 for a picture.
    """

    path: Path
    is_video: bool
    size: tuple[int, int]
    frames: int = 0
    most_frames: int = 0

    @property
    def in_words(self) -> str:
        height, width = self.size
        if not self.is_video:
            return f'Picture, {width} × {height} pixels'
        return f'Video, {width} × {height} pixels, ' + (
            f'about {self.frames} frames' if self.frames else 'unknown length'
        )


def accepted(path: Path, limits: Limits) -> Upload:
    """The file, if it is a picture or video within the limits.

    Raises:
        RequestError: It is not; the message has no path, only the file's name.
    """
    try:
        upload = _video(path, limits) if is_video_file(path) else Upload(path, False, read_picture_header(path).size)
    except (OSError, PictureFileError, VideoFileError) as error:
        raise RequestError(f'{path.name}: {getattr(error, "strerror", None) or error}') from error
    height, width = upload.size
    if height * width > limits.megapixels * 1e6:
        raise RequestError(
            f'{path.name}: {width} × {height} pixels are {height * width / 1e6:.1f} megapixels; this page takes at '
            f'most {limits.megapixels:g}. Cut the picture, or restore it with `basicsr restore`.'
        )
    return upload


def _video(path: Path, limits: Limits) -> Upload:
    header = read_video_header(path)
    if header.video is None:
        raise RequestError(f'{path.name}: {header.problem}')
    frames, rate = header.video.frames, float(header.video.rate)
    seconds = frames / rate if rate else 0.0
    if seconds > limits.seconds * 1.01:
        raise RequestError(
            f'{path.name}: the video has {seconds:.1f} seconds; this page takes at most {limits.seconds:g}. Cut it, or '
            'restore it with `basicsr restore`.'
        )
    return Upload(path, True, header.video.upright_size, frames, max(1, round(limits.seconds * rate * 1.01)))
