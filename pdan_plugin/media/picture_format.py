"""How pictures are stored: the format and its quality. This module imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass

from pdan_plugin.errors import RequestError

# name -> ending
FORMATS = {'png': '.png', 'jpg': '.jpg', 'webp': '.webp', 'tiff': '.tiff', 'avif': '.avif'}
DEFAULT_ENDING = '.png'
JPEG_SUFFIXES = ('.jpe', '.jfif', '.jpeg', '.jpg')
_WITH_QUALITY = (*JPEG_SUFFIXES, '.webp', '.avif')


@dataclass(frozen=True)
class PictureFormat:
    """What was asked for; None and False are the defaults of each format.

    Attributes:
        name: A key of ``FORMATS``.
        quality: 1 to 100, for JPEG, WebP and AVIF. Without it: JPEG 97, WebP lossless, AVIF 90.
        lossless: Whether no value may change. PNG, TIFF and BMP always are lossless; JPEG and Pillow's AVIF never.
    """

    name: str | None = None
    quality: int | None = None
    lossless: bool = False

    @property
    def ending(self) -> str:
        """The ending of results in a folder."""
        return DEFAULT_ENDING if self.name is None else FORMATS[self.name]

    def check(self, ending: str) -> None:
        """Checks whether files with an ending can be written as asked.

        Raises:
            RequestError: They have another format than ``name``, no quality to choose, or are never lossless.
        """
        ending = ending.lower()
        if self.name is not None and ending != FORMATS[self.name] and not self._is_other_ending(ending):
            raise RequestError(
                f'--format {self.name}: the output ends in {ending}. Leave --format out, or give an output that ends '
                f'in {FORMATS[self.name]}.'
            )
        if self.lossless and self.quality is not None:
            raise RequestError('--lossless and --quality: give one of them, because lossless files have no quality.')
        if self.quality is not None and ending not in _WITH_QUALITY:
            raise RequestError(
                f'--quality {self.quality}: {ending} is lossless and has no quality. Leave it out, or choose --format '
                'jpg, webp or avif.'
            )
        if self.lossless and ending in (*JPEG_SUFFIXES, '.avif'):  # Pillow's AVIF converts to YCbCr at quality 100, too
            raise RequestError(f'--lossless: {ending} is not lossless here. Choose --format png, webp or tiff.')

    def _is_other_ending(self, ending: str) -> bool:
        return (self.name == 'jpg' and ending in JPEG_SUFFIXES) or (self.name == 'tiff' and ending == '.tif')
