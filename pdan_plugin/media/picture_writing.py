"""Writes complete picture files, with profile, EXIF and resolution."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.media.picture_files import Picture

WRITTEN_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

_LARGEST_SIDE = {'.jpg': 65500, '.jpeg': 65500, '.webp': 16383}
_JPEG_QUALITY = 97
_PNG_COMPRESSION = 3  # higher levels take several times as long and save a few percent
_METRE = 0.0254  # metres per inch


def what_ending_cannot_hold(picture: Picture, suffix: str, scale: int) -> str | None:
    """The reason why a file with this ending cannot hold the result of ``picture`` at ``scale``; None if it can."""
    suffix = suffix.lower()
    if picture.bits == 16 and suffix not in ('.png', '.tif', '.tiff'):
        return f'{suffix} holds 8 bits per channel, but the picture has 16; use .png'
    if picture.bits == 16 and suffix != '.png' and picture.icc_profile is not None:
        return f'a colour profile cannot be written into a 16-bit {suffix}; use .png'
    if picture.alpha is not None and suffix in ('.jpg', '.jpeg', '.bmp'):
        return f'{suffix} holds no transparency, but the picture has some; use .png'
    side = max(picture.colour.shape[:2]) * scale
    if side > _LARGEST_SIDE.get(suffix, side):
        return f'{suffix} holds at most {_LARGEST_SIDE[suffix]} pixels per side, but the result has {side}; use .png'
    return None


def what_ending_leaves_out(picture: Picture, suffix: str) -> str | None:
    """A note about metadata that a file with this ending loses; None if there is no loss."""
    suffix = suffix.lower()
    lost = []
    if picture.icc_profile is not None and suffix == '.bmp':
        lost.append('its colour profile')
    if picture.exif is not None and (suffix == '.bmp' or (suffix in ('.tif', '.tiff') and picture.bits == 16)):
        lost.append('its EXIF')
    return f'{suffix} is written without {" and ".join(lost)}; use .png to keep it' if lost else None


def write_picture(path: Path, picture: Picture) -> None:
    """Writes a picture in the format of the path's ending (one of ``WRITTEN_SUFFIXES``), as a whole or not at all.

    JPEG has high quality without subsampling; WebP is lossless. 16-bit grey with alpha becomes RGB with alpha, with
    three equal channels.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
        ValueError: The format cannot hold the picture.
    """
    reason = what_ending_cannot_hold(picture, path.suffix, 1)
    if reason is not None:
        raise ValueError(reason)
    with written_whole(path) as unfinished:
        if picture.bits == 16:
            unfinished.write_bytes(_deep_file(picture, path.suffix.lower()))
        else:
            _save_plain(unfinished, picture)


def _save_plain(path: Path, picture: Picture) -> None:
    pixels = picture.colour[..., 0] if picture.is_grey else picture.colour
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    suffix = path.suffix.lower()
    settings: dict[str, Any] = {}
    if suffix in ('.jpg', '.jpeg'):
        settings = {'quality': _JPEG_QUALITY, 'subsampling': 0, 'optimize': max(pixels.shape[:2]) < 8192}
    elif suffix == '.webp':
        settings = {'lossless': True, 'exact': True, 'method': 2}
    elif suffix == '.png':
        settings = {'compress_level': _PNG_COMPRESSION}
    elif suffix in ('.tif', '.tiff'):
        settings = {'compression': 'tiff_adobe_deflate'}
    if picture.icc_profile is not None and suffix != '.bmp':
        settings['icc_profile'] = picture.icc_profile
    if picture.exif is not None and suffix != '.bmp':
        settings['exif'] = b'Exif\0\0' + picture.exif
    if picture.dpi is not None and suffix != '.webp':
        settings['dpi'] = picture.dpi
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **settings)


def _deep_file(picture: Picture, suffix: str) -> bytes:
    """A 16-bit PNG or TIFF by OpenCV; in a PNG, metadata is inserted after the header."""
    pixels: NDArray[Any] = picture.colour[..., ::-1]
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    elif picture.is_grey:
        pixels = pixels[..., 0]
    settings = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_COMPRESSION] if suffix == '.png' else []
    done, encoded = cv2.imencode(suffix, np.ascontiguousarray(pixels), settings)
    if not done:
        raise ValueError(f'a picture of {pixels.shape} cannot be encoded as {suffix}')
    return _with_chunks(encoded.tobytes(), picture) if suffix == '.png' else encoded.tobytes()


def _with_chunks(png: bytes, picture: Picture) -> bytes:
    chunks = b''
    if picture.icc_profile is not None:
        chunks += _chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(picture.icc_profile))
    if picture.dpi is not None:
        across, down = (round(dots / _METRE) for dots in picture.dpi)
        chunks += _chunk(b'pHYs', struct.pack('>IIB', across, down, 1))
    if picture.exif is not None:
        chunks += _chunk(b'eXIf', picture.exif)
    header_end = 8 + 25  # the signature, and IHDR with its 13 bytes
    return png[:header_end] + chunks + png[header_end:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of the PNG specification, section 5.3."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
