"""TIFF files: pixels of every layout that is known here. Any other is rejected with its reason, never guessed.

tifffile reads the tags. The parts of a page are put together here: strips or tiles, interleaved or in planes, in either
byte order, of 1 to 16 bits. libtiff, in Pillow, decompresses what zlib does not. JPEG and fax compression, which exist
for 8 bits and 1 bit alone, are decoded whole by Pillow.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from pdan_plugin.media.picture import Picture, PictureFileError
from pdan_plugin.media.picture_pillow import opened_by_pillow, refuse_what_memory_cannot_hold
from pdan_plugin.media.picture_profile import cmyk_as_rgb

SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')

_NONE, _LZW, _PACKBITS, _LZMA, _ZSTD = 1, 5, 32773, 34925, 50000
_DEFLATE = (8, 32946)
_BY_LIBTIFF = (_LZW, _PACKBITS, _LZMA, _ZSTD)
_PREDICTED = (*_DEFLATE, _LZW, _LZMA, _ZSTD)
_OF_ONE_KIND = {2: 1, 3: 1, 4: 1, 6: 8, 7: 8}  # fax and JPEG, with their bits per channel
_WHITE_IS_0, _BLACK_IS_0, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_CHANNELS = {_WHITE_IS_0: 1, _BLACK_IS_0: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}
_UNKNOWN_COLOURS = {
    None: 'colours that it does not state',
    _YCBCR: 'YCbCr without JPEG compression',
    **dict.fromkeys((8, 9, 10), 'Lab colours'),
    32803: 'raw camera data',
}
_FORMATS = {2: 'signed', 3: 'floating-point', 5: 'complex', 6: 'complex'}
_UNSIGNED = (1, 4)  # 4 is undefined
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT = 0, 1, 2
_SMALLER_OR_MASK = 1 | 4  # kinds of pages
_PER_INCH = {2: 1.0, 3: 2.54}  # by the unit of the resolution
_REVERSED = bytes(int(f'{value:08b}'[::-1], 2) for value in range(256))


@dataclass(frozen=True)
class _Layout:
    """How the pixels of a page are stored.

    Attributes:
        planes, channels: Number of planes, and of channels in each of them.
        bits: Bits per channel, 1 to 16.
        number: NumPy's type of a number of 8 or 16 bits, with its byte order; of other sizes the bytes are unpacked.
        part: (height, width) of a strip or tile.
        extra: Meaning of each channel after those of colour.
    """

    height: int
    width: int
    planes: int
    channels: int
    bits: int
    number: str
    photometric: int
    compression: int
    has_predictor: bool
    is_reversed: bool
    part: tuple[int, int]
    is_tiled: bool
    extra: tuple[int, ...]


def read_tiff(content: bytes) -> Picture:
    """Reads a TIFF of one page, as it is stored: not rotated, and with the file itself as ``exif``.

    Smaller copies of the picture and masks are ignored.

    Raises:
        PictureFileError: The layout is not known, or the file is truncated or damaged.
    """
    notes: list[str] = []
    with _page_of(io.BytesIO(content)) as (page, number):
        tags = page.tags
        profile = _bytes_of(tags, 34675)
        if tags.valueof(259, 1) in _OF_ONE_KIND:
            colour, alpha = _decoded_by_pillow(content, page, number), None
            is_cmyk = colour.shape[2] == 4
        else:
            layout = _layout_of(page)
            refuse_what_memory_cannot_hold(layout.height, layout.width)
            colour, alpha = _in_8_or_16_bits(_channels(content, page, layout), layout, tags, notes)
            is_cmyk = layout.photometric == _CMYK
        dpi = _dpi(tags)
        xmp = _bytes_of(tags, 700)
        if 33723 in tags:
            notes.append('its IPTC block was left out')
    if is_cmyk:
        image, profile = cmyk_as_rgb(Image.frombytes('CMYK', colour.shape[1::-1], colour.tobytes()), profile, notes)
        colour = np.asarray(image)
    is_grey = colour.shape[2] == 1
    colour = np.repeat(colour, 3, axis=2) if is_grey else np.ascontiguousarray(colour)
    return Picture(colour, alpha, is_grey, profile, content, dpi, tuple(notes), xmp)


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """(height, width) of the page of a TIFF, from its tags alone.

    Raises:
        PictureFileError: The file is damaged, or has several pages or none.
    """
    with _page_of(file) as (page, _):
        return page.imagelength, page.imagewidth


def tiff_xmp(content: bytes) -> bytes | None:
    """The XMP packet of a TIFF.

    Raises:
        PictureFileError: See :func:`tiff_size`.
    """
    with _page_of(io.BytesIO(content)) as (page, _):
        return _bytes_of(page.tags, 700)


@contextmanager
def _unlogged() -> Iterator[None]:
    """In the block tifffile logs nothing of this thread: what is wrong with a file is in the errors here."""
    thread, log = threading.get_ident(), logging.getLogger('tifffile')

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    log.addFilter(is_of_others)
    try:
        yield
    finally:
        log.removeFilter(is_of_others)


@contextmanager
def _page_of(file: BinaryIO) -> Iterator[tuple[tifffile.TiffPage, int]]:
    """The only whole page and its number in the file; converts tifffile's errors, also those in the block."""
    try:
        with _unlogged(), tifffile.TiffFile(file) as tiff:
            pages: list[Any] = list(tiff.pages)  # a TiffFrame has a page's attributes, but not in its types
            whole = [number for number, page in enumerate(pages) if not int(page.subfiletype) & _SMALLER_OR_MASK]
            if not pages:
                raise PictureFileError('cannot be decoded; it is truncated or damaged: it has no page')
            if not whole:
                raise PictureFileError('holds only a preview or a mask of a picture; convert it to a TIFF of one page')
            # a description may count pictures that follow the first without a page of their own
            page, described = pages[whole[0]], tiff.series[0]
            if len(whole) > 1 or math.prod(described.shape) > math.prod(page.shape):
                count = max(len(whole), math.prod(described.shape) // math.prod(page.shape))
                raise PictureFileError(f'has {count} pages; save each as a separate file')
            assert isinstance(page, tifffile.TiffPage)
            yield page, whole[0]
    except (PictureFileError, MemoryError):
        raise
    except Exception as error:  # damaged tags make tifffile raise errors of many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PictureFileError(f'cannot be decoded; it is truncated or damaged: {error}') from error


def _layout_of(page: tifffile.TiffPage) -> _Layout:
    """Raises a PictureFileError for a layout that is not known here."""
    tags = page.tags
    photometric, samples = tags.valueof(262), tags.valueof(277, 1)
    if photometric not in _CHANNELS:
        found = _UNKNOWN_COLOURS.get(photometric, f'a photometric interpretation of {photometric}')
        raise PictureFileError(f'is a TIFF of {found}; convert it to grey or RGB')
    bits, formats = (_same_for_all(tags, *each) for each in ((258, 1, 'bits'), (339, 1, 'sample format')))
    if formats not in _UNSIGNED:
        raise PictureFileError(f'has {_FORMATS.get(formats, "unknown")} numbers; convert it to 8 or 16 unsigned bits')
    if not 1 <= bits <= 16:
        raise PictureFileError(f'has {bits} bits per channel; convert it to 8 or 16 bits')
    compression, predictor = int(tags.valueof(259, 1)), tags.valueof(317, 1)
    if compression not in (_NONE, *_DEFLATE, *_BY_LIBTIFF):
        raise PictureFileError(f'is a TIFF with compression {compression}, which is not supported; save it as PNG')
    if predictor != 1 and (predictor != 2 or compression not in _PREDICTED or bits not in (8, 16)):
        raise PictureFileError(f'is a TIFF with predictor {predictor}, which is not supported here; save it as PNG')
    planes = samples if tags.valueof(284, 1) == 2 else 1
    is_tiled, height, width = 322 in tags, page.imagelength, page.imagewidth
    depth = max(tags.valueof(32997, 1), tags.valueof(32998, 1))
    if depth > 1 or (photometric == _CMYK and tags.valueof(332, 1) != 1):
        raise PictureFileError(f'is a TIFF of {"a volume" if depth > 1 else "other inks than CMYK"}; convert it to RGB')
    rows = min(tags.valueof(278, height) or height, height)
    return _Layout(
        height,
        width,
        planes,
        samples // planes,
        bits,
        f'{page.parent.byteorder}u2' if bits > 8 else 'u1',
        int(photometric),
        compression,
        predictor == 2,
        tags.valueof(266, 1) == 2,
        (tags.valueof(323), tags.valueof(322)) if is_tiled else (rows, width),
        is_tiled,
        _extra_channels(tags, samples - _CHANNELS[photometric], is_grey=_CHANNELS[photometric] == 1),
    )


def _same_for_all(tags: tifffile.TiffTags, code: int, default: int, name: str) -> int:
    values = tags.valueof(code, default)
    values = values if isinstance(values, tuple) else (values,)
    if len(set(values)) != 1:
        raise PictureFileError(f'has channels of different {name} ({", ".join(map(str, values))}); convert it to RGB')
    return int(values[0])


def _extra_channels(tags: tifffile.TiffTags, count: int, *, is_grey: bool) -> tuple[int, ...]:
    """The meaning of each channel after those of colour."""
    meanings = tags.valueof(338, (_STRAIGHT,) * (count == 1))  # many writers do not name the only one
    meanings = tuple(map(int, meanings)) if isinstance(meanings, tuple) else (int(meanings),)
    if len(meanings) != count or not set(meanings) <= {_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT}:
        raise PictureFileError(f'has {count} channels beside its colours, of unknown meaning; convert it to RGB')
    if is_grey and _UNSPECIFIED in meanings:
        raise PictureFileError(f'has {count + 1} channels that are not said to be one picture; save each as one file')
    return meanings


def _channels(content: bytes, page: tifffile.TiffPage, layout: _Layout) -> NDArray[Any]:
    """(h, w, all channels): the numbers as stored, uint8 or uint16."""
    result = np.empty((layout.height, layout.width, layout.planes * layout.channels), layout.number[-2:])
    places = [
        (plane, top, left)
        for plane in range(layout.planes)
        for top in range(0, layout.height, layout.part[0])
        for left in range(0, layout.width, layout.part[1])
    ]
    if not len(places) == len(page.dataoffsets) == len(page.databytecounts):
        raise PictureFileError(f'is damaged: it has {len(page.dataoffsets)} parts, expected {len(places)}')
    for (plane, top, left), offset, count in zip(places, page.dataoffsets, page.databytecounts, strict=True):
        height, width = layout.part
        if not layout.is_tiled:
            height = min(height, layout.height - top)
        packed = content[offset : offset + count]
        if count == 0 or len(packed) < count:
            raise PictureFileError('is truncated: a part of its pixels is missing')
        channels = slice(plane, plane + 1) if layout.planes > 1 else slice(None)
        part = _part(packed, layout, height, width)[: layout.height - top, : layout.width - left]
        result[top : top + height, left : left + width, channels] = part
    return result


def _part(packed: bytes, layout: _Layout, height: int, width: int) -> NDArray[Any]:
    """(height, width, channels) of a strip or tile."""
    row = -(-width * layout.channels * layout.bits // 8)  # every row begins with a byte
    if layout.is_reversed:
        packed = packed.translate(_REVERSED)
    if layout.compression in _DEFLATE:
        packed = _inflated(packed, layout.part[0] * row)
    elif layout.compression in _BY_LIBTIFF:
        packed = _decompressed_by_libtiff(packed, layout.compression, height, row)
    if len(packed) < height * row:
        raise PictureFileError('is truncated: a part of its pixels is incomplete')
    numbers = np.frombuffer(packed, np.uint8, height * row)
    if layout.bits in (8, 16):
        numbers = numbers.view(layout.number).reshape(height, width, layout.channels)
        return np.cumsum(numbers, axis=1, dtype=layout.number[-2:]) if layout.has_predictor else numbers
    bits = np.unpackbits(numbers.reshape(height, row), axis=1)[:, : width * layout.channels * layout.bits]
    values = np.zeros((height, width * layout.channels), layout.number[-2:])
    for place in range(layout.bits):
        values = (values << 1) | bits[:, place :: layout.bits]
    return values.reshape(height, width, layout.channels)


def _inflated(packed: bytes, most: int) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(packed, most)
    stream.decompress(stream.unconsumed_tail, 1)  # the checksum, which follows
    if not stream.eof:
        raise PictureFileError('is truncated or damaged: a part of its pixels has no end')
    return content


def _decompressed_by_libtiff(packed: bytes, compression: int, height: int, row: int) -> bytes:
    """Decompresses a part as the only strip of a grey TIFF with a pixel for each byte."""
    tags = [(256, row), (257, height), (258, 8), (259, compression), (262, _BLACK_IS_0), (273, 0), (277, 1)]
    tags += [(278, height), (279, len(packed))]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, value or start) for tag, value in tags)
    file = struct.pack('<2sHIH', b'II', 42, 8, len(tags)) + entries + bytes(4) + packed
    with opened_by_pillow(io.BytesIO(file), ['TIFF']) as image:
        return image.tobytes()


def _in_8_or_16_bits(
    channels: NDArray[Any], layout: _Layout, tags: tifffile.TiffTags, notes: list[str]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colour (h, w, 1, 3 or 4) and alpha (h, w) with white at 255 or 65535, from numbers as they are stored."""
    colours = _CHANNELS[layout.photometric]
    colour = channels[..., :colours]
    if layout.photometric == _PALETTE:
        palette = np.asarray(tags.valueof(320), np.uint16).reshape(3, 1 << layout.bits)
        palette = palette >> 8 if palette.max() > 255 else palette  # 16 bits; some writers store 8
        colour = palette.T.astype(np.uint8)[colour[..., 0]]
    else:
        colour = _scaled(colour, layout.bits)
        colour = ~colour if layout.photometric == _WHITE_IS_0 else colour
    if layout.photometric == _CMYK and colour.dtype != np.uint8:
        raise PictureFileError('is a TIFF of CMYK with more than 8 bits; convert it to RGB')
    which = next((number for number, meaning in enumerate(layout.extra) if meaning != _UNSPECIFIED), None)
    if len(layout.extra) > (which is not None):
        notes.append(f'{len(layout.extra) - (which is not None)} channels beside its colours were left out')
    if which is None:
        return colour, None
    alpha = _scaled(channels[..., colours + which], layout.bits)
    if alpha.dtype != colour.dtype:  # of a palette
        raise PictureFileError('is a TIFF of a palette with transparency; convert it to RGB')
    return (_straight(colour, alpha) if layout.extra[which] == _PREMULTIPLIED else colour), np.ascontiguousarray(alpha)


def _scaled(numbers: NDArray[Any], bits: int) -> NDArray[Any]:
    """Numbers of any number of bits in 8 bits, or 16 if they have more."""
    if bits in (8, 16):
        return numbers.astype(numbers.dtype.newbyteorder('='))
    highest, kind = (1 << bits) - 1, np.uint8 if bits < 8 else np.uint16
    levels = np.round(np.arange(highest + 1) * (np.iinfo(kind).max / highest)).astype(kind)
    return levels[numbers]


def _straight(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Colours that were multiplied by alpha, divided by it again."""
    top = np.iinfo(colour.dtype).max
    divided = np.round(colour * (top / np.maximum(alpha, 1).astype(np.float64))[..., None])
    return np.minimum(divided, top).astype(colour.dtype)


def _decoded_by_pillow(content: bytes, page: tifffile.TiffPage, number: int) -> NDArray[Any]:
    """(h, w, 1, 3 or 4) uint8 of a page with JPEG or fax compression."""
    tags = page.tags
    bits, samples = _same_for_all(tags, 258, 1, 'bits'), tags.valueof(277, 1)
    expected = {1: (_WHITE_IS_0, _BLACK_IS_0), 3: (_RGB, _YCBCR), 4: (_CMYK,)}.get(samples, ())
    is_known = bits == _OF_ONE_KIND[tags.valueof(259)] and tags.valueof(262) in expected
    if not is_known or (samples > 1 and tags.valueof(284, 1) == 2):
        raise PictureFileError('is a TIFF with JPEG or fax compression of an unusual layout; save it as PNG')
    refuse_what_memory_cannot_hold(page.imagelength, page.imagewidth)
    with opened_by_pillow(io.BytesIO(content), ['TIFF']) as image:
        image.seek(number)
        kept = image.convert('L') if image.mode == '1' else image
        pixels = np.asarray(kept)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape != (page.imagelength, page.imagewidth, samples) or pixels.dtype != np.uint8:
        raise PictureFileError('is a TIFF with JPEG or fax compression of an unusual layout; save it as PNG')
    return pixels


def _dpi(tags: tifffile.TiffTags) -> tuple[float, float] | None:
    factor = _PER_INCH.get(tags.valueof(296, 2))
    across, down = (tags.valueof(code) for code in (282, 283))
    if factor is None or across is None or down is None or not (across[1] and down[1]):
        return None
    return factor * across[0] / across[1], factor * down[0] / down[1]


def _bytes_of(tags: tifffile.TiffTags, code: int) -> bytes | None:
    value = tags.valueof(code)
    return None if value is None else bytes(value)
