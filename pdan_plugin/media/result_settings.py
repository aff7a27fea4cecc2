"""What the results of `basicsr restore` shall be. This module imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.picture_format import PictureFormat
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding


@dataclass(frozen=True)
class ResultSettings:
    """Size, format and place of results; the defaults are the network's size, PNG, and a video in the source's depth.

    Attributes:
        size: The size; None for that of the network's output.
        picture: How pictures are stored.
        video: How videos are coded.
        frames: The part of each video; None for all of it.
        suffix: Added to the names of results in a folder, before the ending.
    """

    size: ResultSize | None = None
    picture: PictureFormat = field(default_factory=PictureFormat)
    video: VideoCoding = field(default_factory=VideoCoding)
    frames: FrameRange | None = None
    suffix: str = ''

    def recorded(self) -> dict[str, Any]:
        """What `restore.json` records: the settings that change a result of the same name, without defaults."""
        size = self.size
        values = {
            'scale': None if size is None else size.scale,
            'size': None if size is None or size.scale is not None else size.pixels,
            'quality': self.picture.quality,
            'lossless': self.picture.lossless or None,
            'codec': self.video.codec,
            'crf': self.video.crf,
            'preset': self.video.preset,
            'frames': None if self.frames is None else str(self.frames),
        }
        return {name: value for name, value in values.items() if value is not None}

    def words(self) -> list[str]:
        """The arguments of `basicsr restore` that mean these settings."""
        words = [] if self.picture.name is None else ['--format', self.picture.name]
        for name, value in self.recorded().items():
            words += [f'--{name}'] if value is True else [f'--{name}', f'{value:g}' if name == 'scale' else str(value)]
        return words + ([f'--suffix={self.suffix}'] if self.suffix else [])

    def check(self) -> None:
        """Checks what no file needs to be read for.

        Raises:
            RequestError: Values contradict each other or are out of range.
        """
        self.video.check()
        if self.picture.name is not None:
            self.picture.check(self.picture.ending)
        if any(each in self.suffix for each in ('/', '\\', '\0')):
            raise RequestError(f'--suffix {self.suffix}: a part of a file name cannot hold / or \\.')

    def of_pictures(self) -> list[str]:
        """The arguments that concern pictures alone."""
        given = {'--format': self.picture.name, '--quality': self.picture.quality, '--lossless': self.picture.lossless}
        return [word for word, value in given.items() if value]

    def of_videos(self) -> list[str]:
        """The arguments that concern videos alone."""
        given = {
            '--codec': self.video.codec,
            '--crf': self.video.crf,
            '--preset': self.video.preset,
            '--frames': self.frames,
        }
        return [word for word, value in given.items() if value is not None]
