"""A picture in memory, with what its file says about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


class PictureFileError(ValueError):
    """A file cannot be restored as a picture. The message gives the reason, not the file's name."""


class AnimatedPictureError(PictureFileError):
    """A file has several pictures that are shown one after the other."""


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        colour: (h, w, 3) RGB, uint8 or uint16; three equal channels where ``is_grey``.
        alpha: (h, w) of the same type, 0 transparent; None for an opaque picture.
        is_grey: Whether the file holds grey levels.
        icc_profile: The colour profile; None if the file has none that fits its colours. A grey picture may have a
            profile for RGB.
        exif: Without orientation, size and thumbnail, which may be wrong now. Starts with the TIFF header, not 'Exif'.
        dpi: Dots per inch, across and down.
        notes: Messages for the user about conversions.
        xmp: The XMP packet, without orientation and size.
        png_chunks: (type, content) of a PNG's chunks about colour (gAMA, cICP ...) and its texts.
    """

    colour: NDArray[Any]
    alpha: NDArray[Any] | None = None
    is_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    xmp: bytes | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def bits(self) -> int:
        return 8 * self.colour.dtype.itemsize


@dataclass(frozen=True)
class PictureHeader:
    """The header of a picture file.

    Attributes:
        size: (height, width), before EXIF's orientation.
    """

    size: tuple[int, int]
