"""Reads picture files: upright pixels, and metadata.

Pillow detects the format and damage, and decodes 8 bits. OpenCV decodes 16 bits, which Pillow would reduce to 8.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

PICTURE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

_ORIENTATION = ExifTags.Base.Orientation
# a TIFF's table holds both its layout and its EXIF; of its tags only these describe the picture
_DESCRIBING_TIFF_TAGS = frozenset((270, 271, 272, 305, 306, 315, 316, 33432, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
_PIXEL_SIZE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_STRANGE_MODES = {
    'F': 'floating-point numbers',
    'I': '32-bit whole numbers',
    'LAB': 'Lab colours',
    'HSV': 'HSV colours',
}


class PictureFileError(ValueError):
    """A file cannot be restored as a picture. The message gives the reason, not the file's name."""


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        colour: (h, w, 3) RGB, uint8 or uint16; three equal channels where ``is_grey``.
        alpha: (h, w) of the same type, 0 transparent; None for an opaque picture.
        is_grey: Whether the file holds grey levels.
        icc_profile: The colour profile; None if the file has none.
        exif: Without orientation, size and thumbnail, which may be wrong now. Starts with the TIFF header, not 'Exif'.
        dpi: Dots per inch, across and down.
        notes: Messages for the user about conversions.
    """

    colour: NDArray[Any]
    alpha: NDArray[Any] | None = None
    is_grey: bool = False
    icc_profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

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


def read_picture(path: Path) -> Picture:
    """Reads a picture of any common format, detected by its content, not its name.

    Reads grey and colour, 1 to 16 bits, palettes and transparency, and applies EXIF's orientation. CMYK is converted to
    sRGB with the file's profile, or with the plain formula if there is none; a note reports which.

    Raises:
        PictureFileError: The file is empty, not a picture, truncated, damaged, animated, has several pages, or its
            values have no defined white.
        OSError: The file cannot be read.
    """
    refuse_what_is_no_file(path)
    content = path.read_bytes()
    with _open(content) as image:
        bits = _bits(content, image)
        if bits > 16:
            raise PictureFileError(f'has {bits} bits per channel; convert it to 8 or 16 bits')
        picture = _deep_picture(content, image) if bits > 8 else _plain_picture(image)
        notes = list(picture.notes)
        exif, orientation = _exif(image, notes)
        dpi = image.info.get('dpi')
    if orientation in (6, 8, 5, 7) and dpi is not None:
        dpi = dpi[::-1]
    return replace(
        picture,
        colour=_upright(picture.colour, orientation),
        alpha=None if picture.alpha is None else _upright(picture.alpha, orientation),
        exif=exif,
        dpi=None if dpi is None or not min(dpi) > 0 else (float(dpi[0]), float(dpi[1])),
        notes=tuple(notes),
    )


def refuse_what_is_no_file(path: Path) -> None:
    """Raises a PictureFileError for a pipe, socket or device, because reading might block forever."""
    if path.exists() and not path.is_file():
        raise PictureFileError('is a pipe, a socket or a device; only files are restored')


def read_picture_header(path: Path) -> PictureHeader:
    """Reads only the header; the pixels may still be damaged.

    Raises:
        PictureFileError: The file is not a picture.
        OSError: The file cannot be read.
    """
    refuse_what_is_no_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with path.open('rb') as file, Image.open(file) as image:
                return PictureHeader((image.height, image.width))
        except OSError as error:
            if error.errno is not None:
                raise
            raise PictureFileError('is not a picture') from error
        except Exception as error:  # see `_open`
            raise PictureFileError(f'is not a picture: {error}') from error


@contextmanager
def _open(content: bytes) -> Iterator[Image.Image]:
    """The decoded image; converts all errors of Pillow about the content to `PictureFileError`."""
    if not content:
        raise PictureFileError('is empty (0 bytes)')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about odd metadata, and about large sizes below Pillow's limit
        try:
            with Image.open(io.BytesIO(content)) as image:
                frames = getattr(image, 'n_frames', 1)
                if frames > 1:
                    kind = 'pages' if image.format in ('TIFF', 'MPO') else 'animated frames'
                    if (
                        image.format != 'MPO'
                    ):  # an MPO is a photograph; its further pages are previews or the second eye
                        raise PictureFileError(f'has {frames} {kind}; save each as a separate file')
                if image.mode in _STRANGE_MODES and _bits(content, image) > 16:
                    raise PictureFileError(
                        f'has {_STRANGE_MODES[image.mode]} without a defined white; convert it to 8 or 16 bits'
                    )
                image.load()
                yield image
        except (PictureFileError, MemoryError):
            raise
        except Image.UnidentifiedImageError as error:
            raise PictureFileError('cannot be decoded as a picture: it is not one, or its format is unknown') from error
        except Image.DecompressionBombError as error:
            raise PictureFileError(f'has too many pixels; cut it into parts ({error})') from error
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError) as error:
            raise PictureFileError(f'cannot be decoded; it is truncated or damaged: {error}') from error
        except Exception as error:  # Pillow's decoders raise struct.error, zlib.error and their own
            raise PictureFileError(f'cannot be decoded: {type(error).__name__}: {error}') from error


def _bits(content: bytes, image: Image.Image) -> int:
    """Bits per channel in the file."""
    if image.format == 'PNG':
        return content[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(258, (1,)))
    return 32 if image.mode in ('F', 'I') else 16 if image.mode.startswith('I;16') else 8


def _plain_picture(image: Image.Image) -> Picture:
    """A picture of up to 8 bits, decoded by Pillow."""
    profile, notes = image.info.get('icc_profile'), []
    if image.mode in _STRANGE_MODES:
        raise PictureFileError(f'has {_STRANGE_MODES[image.mode]}; convert it to RGB')
    if image.mode == 'CMYK':
        image, profile, note = _cmyk_as_rgb(image, profile)
        notes.append(note)
    has_alpha = 'transparency' in image.info or image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa')
    is_grey = image.mode in ('1', 'L', 'LA', 'La')
    pixels = np.asarray(image.convert('RGBA' if has_alpha else 'L' if is_grey else 'RGB'))
    if is_grey and not has_alpha:
        return Picture(_three_equal(pixels), None, True, profile, notes=tuple(notes))
    alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, is_grey, profile, notes=tuple(notes))


def _deep_picture(content: bytes, image: Image.Image) -> Picture:
    """A 16-bit picture, decoded by OpenCV; Pillow has already checked that the file is complete."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.tag_v2.get(339, (1,))[0] != 1:
            raise PictureFileError('has signed or floating-point numbers; convert it to 8 or 16 unsigned bits')
        if image.tag_v2.get(262) not in (0, 1, 2):
            raise PictureFileError('is a 16-bit TIFF that is neither grey nor RGB; convert it to RGB')
        if image.tag_v2.get(338, (2,))[0] == 1:
            raise PictureFileError('is a 16-bit TIFF with premultiplied transparency; save it with a straight alpha')
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != image.size[::-1]:
        raise PictureFileError('is a 16-bit file that cannot be decoded; convert it to a 16-bit PNG')
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(262) == 0:  # white is 0
        pixels = _inverted(pixels)
    is_grey = pixels.ndim == 2 or content[25] == 4 if image.format == 'PNG' else pixels.ndim == 2
    colour = _three_equal(pixels) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    key = image.info.get('transparency')
    if alpha is None and key is not None:  # one colour marks transparent pixels
        alpha = np.where(np.all(colour == np.asarray(key, np.uint16), axis=-1), 0, 65535).astype(np.uint16)
    return Picture(colour, alpha, is_grey, image.info.get('icc_profile'))


def _cmyk_as_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None, str]:
    if profile is not None:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB'))
        try:
            converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode='RGB')
        except ImageCms.PyCMSError:
            converted = None
        if converted is not None:
            return converted, srgb.tobytes(), 'CMYK, converted to sRGB by its profile'
    return (
        image.convert('RGB'),
        None,
        'CMYK without a usable profile, converted by the plain formula: colours may differ',
    )


def _exif(image: Image.Image, notes: list[str]) -> tuple[bytes | None, int]:
    """The EXIF to keep (None if there is none), and its orientation."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        kept = set(exif) - {_ORIENTATION}
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            kept &= _DESCRIBING_TIFF_TAGS
        result = Image.Exif()
        for tag in kept:
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                entries = dict(exif.get_ifd(tag))
                result.get_ifd(tag).update(
                    {key: value for key, value in entries.items() if key not in _PIXEL_SIZE_TAGS}
                )
                continue
            result[tag] = exif[tag]
        written = result.tobytes().removeprefix(b'Exif\0\0') if kept else None
    except Exception as error:  # broken EXIF is common, and the picture does not need it
        notes.append(f'its EXIF block is damaged and was left out ({type(error).__name__}: {error})')
        return None, 1
    return written, orientation if orientation in range(1, 9) else 1


def _inverted(pixels: NDArray[Any]) -> NDArray[Any]:
    """Inverts the pixels of a TIFF whose white is 0; alpha stays."""
    return 65535 - pixels if pixels.ndim == 2 else np.dstack([65535 - pixels[..., :-1], pixels[..., -1]])


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels rotated and mirrored by EXIF's orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _three_equal(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=2)
