"""Writes complete picture files, with profile, EXIF, XMP and resolution."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_format import JPEG_SUFFIXES, PictureFormat
from pdan_plugin.media.picture_png import TEXT_CHUNKS, Chunk, profile_chunk, resolution_chunk, write_png, xmp_chunk
from pdan_plugin.media.picture_profile import profile_colours
from pdan_plugin.media.picture_tiff_writing import save_tiff

_JPEG, _TIFF = JPEG_SUFFIXES, ('.tif', '.tiff')
WRITTEN_SUFFIXES = ('.avif', '.bmp', *_JPEG, '.png', *_TIFF, '.webp')

_LARGEST_SIDE = {**dict.fromkeys(_JPEG, 65500), '.webp': 16383, '.avif': 65536}
_LARGEST_FILE = dict.fromkeys(('.bmp', *_TIFF), 2**32 - 2**26)  # bytes; room for metadata
_LONGEST_SEGMENT = 65533  # bytes in a segment of a JPEG
_EXIF_START, _XMP_START = b'Exif\0\0', b'http://ns.adobe.com/xap/1.0/\0'
_JPEG_QUALITY, _AVIF_QUALITY = 97, 90
# what a file without profile is shown with, as PNG's chunks gAMA, cHRM and cICP give it
_SRGB_GAMMA = range(45000, 46000)
_SRGB_PRIMARIES = struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_SRGB_CODING = (b'\1\x0d\0\1', b'\1\1\0\1')
_XMP_TAG, _PROFILE_TAG = 700, 34675


def require_writer(suffix: str) -> None:
    """Checks whether the installed Pillow writes files with this ending.

    Raises:
        RequestError: It does not.
    """
    Image.init()
    if suffix.lower() == '.avif' and 'AVIF' not in Image.SAVE:
        raise RequestError(
            f'.avif: the installed Pillow {PIL.__version__} cannot write it; 11.3 can: pip install --upgrade pillow'
        )


def what_ending_cannot_hold(picture: Picture, suffix: str, size: tuple[int, int] | None = None) -> str | None:
    """The reason why a file with this ending cannot hold the result of ``picture``; None if it can.

    Args:
        size: (height, width) of the result; None for that of the picture.
    """
    height, width = picture.colour.shape[:2]
    result = (height, width) if size is None else size
    suffix = suffix.lower()
    if picture.bits == 16 and suffix not in ('.png', *_TIFF):
        return f'{suffix} holds 8 bits per channel, but the picture has 16; use .png'
    if picture.alpha is not None and suffix in (*_JPEG, '.bmp'):
        return f'{suffix} holds no transparency, but the picture has some; use .png'
    side = max(result)
    if side > _LARGEST_SIDE.get(suffix, side):
        return f'{suffix} holds at most {_LARGEST_SIDE[suffix]} pixels per side, but the result has {side}; use .png'
    bytes_of_result = sum(part.nbytes for part in _parts(picture, suffix)) * math.prod(result) // (height * width)
    if bytes_of_result > _LARGEST_FILE.get(suffix, bytes_of_result):
        return f'{suffix} holds at most 4 GB, but the result has {bytes_of_result / 1e9:.1f} GB; use .png'
    most = _LONGEST_SEGMENT - len(_EXIF_START)
    if suffix in _JPEG and picture.exif is not None and len(picture.exif) > most:
        return f'{suffix} holds at most {most} bytes of EXIF, but the picture has {len(picture.exif)}; use .png'
    return None


def what_ending_leaves_out(picture: Picture, suffix: str) -> str | None:
    """A note about metadata that a file with this ending loses; None if there is no loss."""
    suffix = suffix.lower()
    lost = []
    if picture.icc_profile is not None and _written_profile(picture, suffix) is None:
        lost.append('its colour profile')
    if picture.exif is not None and suffix == '.bmp':
        lost.append('its EXIF')
    if picture.xmp is not None and not _holds_xmp(picture.xmp, suffix):
        lost.append('its XMP')
    if suffix != '.png':
        lost += [f'its {kind}' for kind in dict.fromkeys(_telling_chunks(picture))]
    return f'{suffix} is written without {" and ".join(lost)}; use .png to keep it' if lost else None


def write_picture(
    path: Path, picture: Picture, form: PictureFormat | None = None, check: Callable[[], None] | None = None
) -> None:
    """Writes a picture in the format of the path's ending (one of ``WRITTEN_SUFFIXES``), as a whole or not at all.

    JPEG and AVIF have no subsampling. A grey picture whose profile is for RGB is written as RGB with three equal
    channels. A PNG of any size takes little memory beside the picture.

    Args:
        path: The file; nothing of it appears before it is complete.
        picture: What it holds.
        form: The quality; None for the default of each format.
        check: Called between the bands of a PNG, whose writing may take long; an exception that it raises ends it.

    Raises:
        OSError: The file cannot be written; nothing is left behind.
        ValueError: The format cannot hold the picture.
    """
    reason = what_ending_cannot_hold(picture, path.suffix)
    if reason is not None:
        raise ValueError(reason)
    suffix = path.suffix.lower()
    with written_whole(path) as unfinished:
        if suffix == '.png':
            with unfinished.open('wb') as file:
                write_png(file, _parts(picture, suffix), _chunks(picture), check)
        elif suffix in _TIFF:
            save_tiff(
                unfinished,
                _together(picture, suffix),
                is_grey=_is_written_grey(picture, suffix),
                has_alpha=picture.alpha is not None,
                blocks={_PROFILE_TAG: _written_profile(picture, suffix), _XMP_TAG: picture.xmp},
                exif=picture.exif,
                dpi=picture.dpi,
            )
        else:
            _save_by_pillow(unfinished, picture, form or PictureFormat())


def _is_written_grey(picture: Picture, suffix: str) -> bool:
    has_rgb_profile = picture.icc_profile is not None and profile_colours(picture.icc_profile) == 'RGB'
    return picture.is_grey and suffix not in ('.webp', '.avif') and (suffix == '.bmp' or not has_rgb_profile)


def _written_profile(picture: Picture, suffix: str) -> bytes | None:
    if picture.icc_profile is None or suffix == '.bmp':
        return None
    colours = 'GRAY' if _is_written_grey(picture, suffix) else 'RGB'
    return picture.icc_profile if profile_colours(picture.icc_profile) == colours else None


def _holds_xmp(xmp: bytes, suffix: str) -> bool:
    return suffix != '.bmp' and (suffix not in _JPEG or len(xmp) <= _LONGEST_SEGMENT - len(_XMP_START))


def _telling_chunks(picture: Picture) -> Iterator[str]:
    """The names of those chunks whose loss changes how the picture is shown, and of texts."""
    chunks = dict(picture.png_chunks)
    is_described = picture.icc_profile is not None or b'sRGB' in chunks or b'cICP' in chunks
    for kind, content in picture.png_chunks:
        if kind in TEXT_CHUNKS:
            yield 'texts'
        elif (
            (kind == b'cICP' and content not in _SRGB_CODING)
            or (kind == b'gAMA' and not is_described and int.from_bytes(content, 'big') not in _SRGB_GAMMA)
            or (kind == b'cHRM' and not is_described and content != _SRGB_PRIMARIES)
            or kind in (b'mDCV', b'cLLI')
        ):
            yield kind.decode()


def _parts(picture: Picture, suffix: str) -> list[NDArray[Any]]:
    """The channels to write."""
    colour = picture.colour[..., 0] if _is_written_grey(picture, suffix) else picture.colour
    return [colour] if picture.alpha is None else [colour, picture.alpha]


def _together(picture: Picture, suffix: str) -> NDArray[Any]:
    parts = _parts(picture, suffix)
    return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.dstack(parts))


def _chunks(picture: Picture) -> list[Chunk]:
    profile = _written_profile(picture, '.png')
    chunks = [each for each in picture.png_chunks if profile is None or each[0] != b'sRGB']
    if profile is not None:
        chunks.append(profile_chunk(profile))
    if picture.dpi is not None:
        chunks.append(resolution_chunk(picture.dpi))
    if picture.exif is not None:
        chunks.append((b'eXIf', picture.exif))
    if picture.xmp is not None:
        chunks.append(xmp_chunk(picture.xmp))
    return chunks


def _save_by_pillow(path: Path, picture: Picture, form: PictureFormat) -> None:
    suffix = path.suffix.lower()
    xmp = picture.xmp if picture.xmp is not None and _holds_xmp(picture.xmp, suffix) else None
    settings: dict[str, Any] = {}
    if suffix in _JPEG:
        longest = max(picture.colour.shape[:2])
        settings = {
            'format': 'JPEG',
            'quality': form.quality or _JPEG_QUALITY,
            'subsampling': 0,
            'optimize': longest < 8192,
        }
        if xmp is not None:
            content = _XMP_START + xmp
            settings['extra'] = b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content
    elif suffix == '.webp':
        lossy = {'quality': form.quality, 'method': 4}
        settings = {'lossless': True, 'exact': True, 'method': 2} if form.quality is None else lossy
        settings |= {} if xmp is None else {'xmp': xmp}
    elif suffix == '.avif':
        settings = {'quality': form.quality or _AVIF_QUALITY, 'subsampling': '4:4:4'} | (
            {} if xmp is None else {'xmp': xmp}
        )
    if (profile := _written_profile(picture, suffix)) is not None:
        settings['icc_profile'] = profile
    if picture.exif is not None and suffix != '.bmp':
        settings['exif'] = _EXIF_START + picture.exif
    if picture.dpi is not None and suffix not in ('.webp', '.avif'):
        settings['dpi'] = picture.dpi
    image = Image.fromarray(_together(picture, suffix))
    if suffix not in _JPEG:
        image.save(path, **settings)
        return
    file = io.BytesIO()  # into a file Pillow's encoder writes by itself, and does not say that the disk is full
    image.save(file, **settings)
    # no getbuffer(): if the disk is full, the error keeps the view, and Python 3.12.1 crashes when it is collected
    path.write_bytes(file.getvalue())
