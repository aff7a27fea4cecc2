"""Reads picture files: upright pixels, and metadata.

TIFF and PNG are taken apart here. Pillow detects other formats and damage, and decodes 8 bits. OpenCV decodes 16 bits,
which Pillow would reduce to 8.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.media import picture_png, picture_tiff
from pdan_plugin.media.orientation import is_sideways, upright
from pdan_plugin.media.picture import AnimatedPictureError, Picture, PictureFileError, PictureHeader
from pdan_plugin.media.picture_jpeg import what_follows_jpeg
from pdan_plugin.media.picture_metadata import coding_of_avif, kept_exif, kept_xmp, stored_bits
from pdan_plugin.media.picture_pillow import opened_by_pillow, refuse_what_memory_cannot_hold
from pdan_plugin.media.picture_profile import cmyk_as_rgb, fitting_profile

__all__ = ['Picture', 'PictureFileError', 'PictureHeader', 'read_picture', 'read_picture_header', 'read_upright_size']

_UNKNOWN_WHITE = {'F': 'floating-point numbers', 'I': '32-bit whole numbers'}
_OTHER_COLOURS = {'LAB': 'Lab colours', 'HSV': 'HSV colours'}
_IPTC = 0x0404  # among the blocks of Photoshop
_JPEG = b'\xff\xd8'
_DESCRIBED = re.compile(rb'Exif\0\0|eXIf|Raw profile type|http://ns\.adobe\.com/xap|XML:com\.adobe\.xmp')  # PNG, JPEG
_XMP_IN_JPEG = b'http://ns.adobe.com/xap/1.0/\0'
# what the frames are, where they are no animation
_ONE_PICTURE = {
    'MPO': 'further pictures in the file, such as a preview, a gain map or the second eye',
    'PSD': 'its layers; the picture is all of them together, as the file holds it',
}
# formats whose beginning cannot be that of another file; TIFF has a reader of its own
_SURE_FORMATS = ['PNG', 'JPEG', 'WEBP', 'BMP', 'GIF', 'AVIF', 'JPEG2000', 'PPM', 'DDS', 'QOI', 'SGI', 'PSD']
_ENDINGS_OF_TGA = ('.tga', '.icb', '.vda', '.vst')  # TGA has no beginning of its own
_TGA_DESCRIPTOR, _TGA_ALPHA_BITS = 17, 15
_NO_PICTURES = ('MPEG', 'PDF')  # Pillow detects these, and decodes none of them


def read_picture(path: Path) -> Picture:
    """Reads a picture of any common format, detected by its content, not its name.

    Reads grey and colour, 1 to 16 bits, palettes and transparency, and applies EXIF's orientation. CMYK is converted to
    sRGB with the file's profile, or with the plain formula if there is none; a note reports which.

    Raises:
        PictureFileError: The file is empty, not a picture, truncated, damaged, animated, has several pages, its
            values have no defined white, or it is larger than the memory.
        OSError: The file cannot be read.
    """
    refuse_what_is_no_file(path)
    content = path.read_bytes()
    if not content:
        raise PictureFileError('is empty (0 bytes)')
    if content.startswith(picture_tiff.SIGNATURES):
        stored = picture_tiff.read_tiff(content)
    elif content.startswith(picture_png.SIGNATURE):
        stored = _png_picture(picture_png.read_png(content))
    else:
        stored = _other_picture(content)
    notes = list(stored.notes)
    exif, orientation = kept_exif(stored.exif, stored.xmp, notes, is_tiff=stored.exif is content)
    dpi = stored.dpi
    if dpi is not None:
        dpi = None if not min(dpi) > 0 else dpi[::-1] if is_sideways(orientation) else dpi
    return replace(
        stored,
        colour=upright(stored.colour, orientation),
        alpha=None if stored.alpha is None else upright(stored.alpha, orientation),
        icc_profile=fitting_profile(stored.icc_profile, is_grey=stored.is_grey, notes=notes),
        exif=exif,
        dpi=None if dpi is None else (float(dpi[0]), float(dpi[1])),
        notes=tuple(notes),
        xmp=kept_xmp(stored.xmp),
    )


def read_as_shown(path: Path) -> NDArray[np.uint8]:
    """(h, w, 3) RGB: a picture in 8 bits, without its transparency; for commands that compare or show pictures.

    Raises:
        PictureFileError, OSError: See :func:`read_picture`.
    """
    colour = read_picture(path).colour
    return colour if colour.dtype == np.uint8 else (colour >> 8).astype(np.uint8)


def refuse_what_is_no_file(path: Path) -> None:
    """Raises a PictureFileError for a pipe, socket or device, because reading might block forever."""
    if path.is_dir():
        raise PictureFileError('is a folder; give a file in it')
    if path.exists() and not path.is_file():
        raise PictureFileError('is a pipe, a socket or a device; only files are restored')


def is_picture_file(path: Path) -> bool:
    """Whether a file of a folder is to be read as a picture: by its ending, and with any other by its content."""
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            if file.read(4) in picture_tiff.SIGNATURES:
                file.seek(0)
                return min(picture_tiff.tiff_size(file)) > 0
            file.seek(0)
            with opened_by_pillow(file, [*_SURE_FORMATS, *(['TGA'] if suffix in _ENDINGS_OF_TGA else [])]):
                return True
    except (PictureFileError, OSError):
        return False


def read_picture_header(path: Path) -> PictureHeader:
    """Reads only the header; the pixels may still be damaged.

    Raises:
        PictureFileError: The file is not a picture.
        OSError: The file cannot be read.
    """
    refuse_what_is_no_file(path)
    with path.open('rb') as file:
        start = file.read(4)
        file.seek(0)
        if start in picture_tiff.SIGNATURES:
            return PictureHeader(picture_tiff.tiff_size(file))
        with opened_by_pillow(file) as image:
            _refuse_other_media(image)
            return PictureHeader((image.height, image.width))


def read_upright_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as it is shown, by its header, EXIF and XMP; the pixels are not decoded.

    Raises:
        PictureFileError, OSError: See :func:`read_picture_header`.
    """
    height, width = read_picture_header(path).size
    is_turned = height != width and is_sideways(stored_orientation(path.read_bytes()))
    return (width, height) if is_turned else (height, width)


def stored_orientation(content: bytes) -> int:
    """The orientation, 1 to 8, that EXIF or else XMP gives, of a picture file or of its beginning.

    Raises:
        PictureFileError: The bytes are not those of a picture.
    """
    if content.startswith(picture_tiff.SIGNATURES):
        return kept_exif(content, picture_tiff.tiff_xmp(content), [], is_tiff=True)[1]
    is_png = content.startswith(picture_png.SIGNATURE)
    if (is_png or content.startswith(_JPEG)) and _DESCRIBED.search(content) is None:
        return 1
    if is_png:
        return kept_exif(*picture_png.read_exif_and_xmp(content), [])[1]
    with opened_by_pillow(io.BytesIO(content)) as image:
        return kept_exif(image.info.get('exif', b'').removeprefix(b'Exif\0\0') or None, _xmp(image), [])[1]


def _png_picture(png: picture_png.PngFile) -> Picture:
    if png.frames > 1:
        raise AnimatedPictureError(f'has {png.frames} animated frames; save each as a separate file')
    with opened_by_pillow(io.BytesIO(png.pixels), ['PNG']) as image:
        refuse_what_memory_cannot_hold(image.height, image.width)
        picture_png.refuse_missing_rows(png)
        image.load()
        picture = _plain_picture(image) if png.bits <= 8 else _deep_picture(png.pixels, image, is_grey=png.is_grey)
    return replace(
        picture,
        icc_profile=png.icc_profile,
        exif=png.exif,
        dpi=png.dpi,
        notes=(*png.notes, *picture.notes),
        xmp=png.xmp,
        png_chunks=tuple(png.kept),
    )


def _other_picture(content: bytes) -> Picture:
    with opened_by_pillow(io.BytesIO(content)) as image:
        _refuse_other_media(image)
        frames = getattr(image, 'n_frames', 1)
        if frames > 1 and image.format not in _ONE_PICTURE:
            raise AnimatedPictureError(f'has {frames} animated frames; save each as a separate file')
        refuse_what_memory_cannot_hold(image.height, image.width)
        bits = stored_bits(content, image)
        image.load()
        if bits > 16:
            found = _UNKNOWN_WHITE.get(image.mode, f'{bits} bits')
            raise PictureFileError(f'has {found} without a defined white; convert it to 8 or 16 bits')
        is_deep = bits == 16 and image.format in ('PPM', 'JPEG2000')
        if image.format == 'TGA' and not content[_TGA_DESCRIPTOR] & _TGA_ALPHA_BITS:
            image = _without_alpha(image)
        if is_deep or image.mode.startswith('I'):
            picture = _deep_picture(content, image, is_grey=image.mode.startswith(('I', 'L')))
        else:
            picture = _plain_picture(image)
        notes = list(picture.notes)
        if image.format == 'JPEG':
            what_follows_jpeg(content, notes)
        elif frames > 1:
            notes.append(f'left out: {_ONE_PICTURE[str(image.format)]}')
        if bits > picture.bits:
            notes.append(f'has {bits} bits per channel, of which {picture.bits} are read')
        if _IPTC in (image.info.get('photoshop') or {}):
            notes.append('its IPTC block was left out')
        return replace(
            picture,
            exif=image.info.get('exif', b'').removeprefix(b'Exif\0\0') or None,
            dpi=image.info.get('dpi'),
            notes=tuple(notes),
            xmp=_xmp(image),
            png_chunks=coding_of_avif(content) if image.format == 'AVIF' and picture.icc_profile is None else (),
        )


def _refuse_other_media(image: Image.Image) -> None:
    if image.format in _NO_PICTURES:
        raise PictureFileError(f'is {image.format}, not a picture')


def _xmp(image: Image.Image) -> bytes | None:
    found = image.info.get('xmp')
    for name, segment in getattr(image, 'applist', []):  # of a JPEG; older Pillows leave it there
        if found is None and name == 'APP1' and segment.startswith(_XMP_IN_JPEG):
            found = segment[len(_XMP_IN_JPEG) :]
    return found.encode() if isinstance(found, str) else found


def _plain_picture(image: Image.Image) -> Picture:
    """A picture of up to 8 bits, decoded by Pillow."""
    profile, notes = image.info.get('icc_profile'), []
    if image.mode in _OTHER_COLOURS:
        raise PictureFileError(f'has {_OTHER_COLOURS[image.mode]}; convert it to RGB')
    if image.mode == 'CMYK':
        if image.format == 'JPEG' and 'adobe' not in image.info:
            notes.append('CMYK without a mark of its direction, taken as inverted, as most programs write it')
        image, profile = cmyk_as_rgb(image, profile, notes)
    has_alpha = 'transparency' in image.info or image.mode in ('LA', 'La', 'PA', 'RGBA', 'RGBa')
    is_grey = image.mode in ('1', 'L', 'LA', 'La')
    pixels = np.asarray(image.convert('RGBA' if has_alpha else 'L' if is_grey else 'RGB'))
    if is_grey and not has_alpha:
        return Picture(_three_equal(pixels), None, True, profile, notes=tuple(notes))
    alpha = np.ascontiguousarray(pixels[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(pixels[..., :3]), alpha, is_grey, profile, notes=tuple(notes))


def _deep_picture(content: bytes, image: Image.Image, *, is_grey: bool) -> Picture:
    """A 16-bit picture, decoded by OpenCV; Pillow has already checked that the file is complete."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != image.size[::-1]:
        reason = 'is a 16-bit file that cannot be decoded; convert it to a 16-bit PNG'
        raise PictureFileError('cannot be decoded; it is truncated or damaged' if image.format == 'PNG' else reason)
    colour = _three_equal(pixels) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., 2::-1])
    alpha = np.ascontiguousarray(pixels[..., 3]) if pixels.ndim == 3 and pixels.shape[2] == 4 else None
    key = image.info.get('transparency')
    if alpha is None and key is not None:  # one colour marks transparent pixels
        alpha = np.where(np.all(colour == np.asarray(key, np.uint16), axis=-1), 0, 65535).astype(np.uint16)
    return Picture(colour, alpha, is_grey, image.info.get('icc_profile'))


def _without_alpha(image: Image.Image) -> Image.Image:
    return image.convert('RGB' if image.mode == 'RGBA' else 'L') if image.mode in ('RGBA', 'LA') else image


def _three_equal(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=2)
