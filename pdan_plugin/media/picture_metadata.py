"""What a picture's file says beside its pixels: EXIF and XMP that stay true for a result, and the depth of numbers."""

from __future__ import annotations

import io
import re
import struct
import warnings

from PIL import ExifTags, Image

from pdan_plugin.media.picture import PictureFileError

_ORIENTATION = ExifTags.Base.Orientation
# a TIFF's table holds both its layout and its EXIF; of its tags only these describe the picture
_DESCRIBING_TIFF_TAGS = frozenset((270, 271, 272, 305, 306, 315, 316, 33432, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
_PIXEL_SIZE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_STALE_XMP = rb'tiff:Orientation|tiff:ImageWidth|tiff:ImageLength|exif:PixelXDimension|exif:PixelYDimension'
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:\s*=\s*["\']|>)\s*([1-8])')
_STALE_IN_XMP = re.compile(
    rb'\s(?:%b)\s*=\s*(?:"[^"]*"|\'[^\']*\')|<(%b)>[^<]*</\1>' % (_STALE_XMP, _STALE_XMP)
)  # as an attribute or as an element


def kept_exif(
    stored: bytes | None, xmp: bytes | None, notes: list[str], *, is_tiff: bool = False
) -> tuple[bytes | None, int]:
    """The EXIF to keep (None if there is none), and the orientation, 1 to 8, that EXIF or else XMP gives.

    Args:
        stored: EXIF from its TIFF header on.
        xmp: The XMP packet.
        notes: Gets a note about damage.
        is_tiff: Whether ``stored`` is a whole TIFF file.
    """
    in_xmp = None if xmp is None else _XMP_ORIENTATION.search(xmp)
    orientation = int(in_xmp[1]) if in_xmp else 1
    if not stored:
        return None, orientation
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about single tags
            exif = _loaded(stored)
        orientation = exif.get(_ORIENTATION, orientation)
        kept = set(exif) - {_ORIENTATION}
        if is_tiff:
            kept &= _DESCRIBING_TIFF_TAGS
        result = Image.Exif()
        for tag in kept:
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                entries = dict(exif.get_ifd(tag))
                # not through get_ifd, whose dictionary Pillow 9 does not keep
                result[tag] = {key: _as_stored(value) for key, value in entries.items() if key not in _PIXEL_SIZE_TAGS}
                continue
            result[tag] = _as_stored(exif[tag])
        written = result.tobytes().removeprefix(b'Exif\0\0') if kept else None
    except Exception as error:  # broken EXIF is common, and the picture does not need it
        notes.append(f'its EXIF block is damaged and was left out ({type(error).__name__}: {error})')
        return None, 1
    return written, orientation if orientation in range(1, 9) else 1


def _as_stored(value: object) -> object:
    """A text with the bytes that it has in the file, such as UTF-8: Pillow would write a question mark for each."""
    return value.encode('latin-1') if isinstance(value, str) and not value.isascii() else value


def kept_xmp(stored: bytes | None) -> bytes | None:
    """The XMP packet without orientation and size, which may be wrong now."""
    return _STALE_IN_XMP.sub(b'', stored) if stored else None


def _loaded(stored: bytes) -> Image.Exif:
    if stored.startswith((b'II+\0', b'MM\0+')):  # BigTIFF
        return Image.open(io.BytesIO(stored)).getexif()
    exif = Image.Exif()
    exif.load(stored)
    return exif


def stored_bits(content: bytes, image: Image.Image) -> int:
    """Bits per channel in a file that is neither TIFF nor PNG; the decoder may return fewer.

    Raises:
        PictureFileError: No decoder returns such numbers with white at the highest one.
    """
    bits = {'F': 32, 'I': 32}.get(image.mode, 16 if image.mode.startswith('I;16') else 8)
    if image.format == 'PPM' and image.mode != 'F':
        (*_, arguments), *_ = getattr(image, 'tile', None) or [(None,)]
        highest = arguments[1] if isinstance(arguments, tuple) else 65535 if arguments == 'I;16B' else 255
        if isinstance(highest, int) and 255 < highest < 65535:
            raise PictureFileError(f'has a white of {highest}; convert it to a PNG of 16 bits')
        bits = 16 if highest == 65535 else 8
    elif image.format == 'JPEG2000':
        start = content.find(b'\xff\x4f\xff\x51')  # the depth of the first channel is 42 bytes behind
        depth = content[start + 42] if 0 <= start < len(content) - 42 else bits - 1
        bits = (depth & 127) + 1
        if depth > 127 or 8 < bits != 16:
            raise PictureFileError(f'has {"signed" if depth > 127 else bits}-bit numbers; convert it to a PNG')
    elif image.format == 'AVIF':
        start = content.find(b'av1C')
        bits = 8 if start < 0 or not content[start + 6] & 64 else 12 if content[start + 6] & 32 else 10
    elif image.format == 'SGI':
        bits = 8 * content[3]
    return bits


def coding_of_avif(content: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The PNG chunk cICP of an AVIF whose colours are not those of sRGB, such as an HDR photograph's; else nothing."""
    start = content.find(b'colrnclx')
    if start < 0 or start + 12 > len(content):
        return ()
    primaries, transfer = struct.unpack_from('>HH', content, start + 8)
    if (primaries in (1, 2) and transfer in (1, 2, 6, 13)) or max(primaries, transfer) > 255:
        return ()
    return ((b'cICP', bytes((primaries, transfer, 0, 1))),)
