"""PNG files: their chunks, and a writer for any size in little memory.

Numbers in brackets are sections of the PNG specification, third edition.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.media.picture import PictureFileError

try:
    from isal import isal_zlib as deflate
except ImportError:  # a processor that it is not built for
    deflate = zlib

SIGNATURE = b'\x89PNG\r\n\x1a\n'

_COLOUR_CHUNKS = (b'cICP', b'mDCV', b'cLLI', b'sRGB', b'cHRM', b'gAMA')
TEXT_CHUNKS = (b'tEXt', b'zTXt', b'iTXt')
_PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_XMP = b'XML:com.adobe.xmp'
_EXIF_TEXTS = (b'Raw profile type exif', b'Raw profile type APP1')  # before PNG had a chunk for EXIF
_LARGEST_TEXT = 1 << 28  # bytes after decompression; a few kilobytes can hold more than any memory

_METRE = 0.0254  # metres per inch
_LEVEL = 1  # of ISA-L: a third of the time of zlib, and files as small; its higher levels save under 1%
_LEFT, _UP, _MEAN = _FILTERS = 1, 2, 3
_PLACES, _TRIED_ROWS = 5, 8  # of a picture, from which its filter is chosen
_TRIED = 1 << 17  # bytes of these rows; wide pictures are tried by fewer rows
_BAND = 1 << 18  # bytes filtered at a time, which stay in a core's cache
_FEWEST_BANDS = 4  # for each thread; starting one takes as long as compressing some
_ADLER = 65521
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels [11.2.1]
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the colour type
_PALETTE = 3
# the first column and row of each pass of an interlaced picture, and the steps to the next [8.2]
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 20  # bytes decompressed at a time
_Damaged = cast('type[Exception]', deflate.error)  # annotated there as an instance

Chunk = tuple[bytes, bytes]
_Result = TypeVar('_Result')


@dataclass
class PngFile:
    """The content of a PNG.

    Attributes:
        pixels: The same PNG with the chunks that its pixels need, and no others.
        bits: Bits per channel, 1 to 16.
        is_grey: Whether the colour type is grey, with or without alpha.
        frames: Number of pictures; more than 1 in an animation.
        icc_profile, xmp, exif, dpi: As stored; see :class:`~pdan_plugin.media.picture.Picture`.
        kept: The chunks about colour, and texts.
        notes: What is damaged and left out.
    """

    pixels: bytes
    bits: int
    is_grey: bool
    frames: int
    icc_profile: bytes | None = None
    xmp: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    kept: list[Chunk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_png(content: bytes) -> PngFile:
    """Separates the pixels of a PNG from what describes them. Chunks may have any size.

    Decoders limit the size of texts and profiles, and reject a whole file for them. So they get the pixels alone.

    Raises:
        PictureFileError: The header is missing, or a chunk that the pixels need is truncated or damaged.
    """
    pixels: list[bytes | memoryview] = [SIGNATURE]
    described: list[Chunk] = []
    damaged: list[bytes] = []
    header, frames, kinds = b'', 1, set[bytes]()
    for kind, whole, is_sound in _chunks(content):
        body = whole[8:-4]
        if kind in _PIXEL_CHUNKS:
            if not is_sound:
                raise PictureFileError(f'cannot be decoded; it is truncated or damaged, in its chunk {kind.decode()}')
            header = header or bytes(body)
            kinds.add(kind)
            pixels.append(whole)
        elif not is_sound:
            damaged.append(kind)
        elif kind == b'acTL' and len(body) == 8:
            # the picture that decoders without animation show may be one more
            frames = int.from_bytes(body[:4], 'big') + (not _starts_with_its_first_frame(content))
        else:
            described.append((kind, bytes(body)))
    if len(header) != 13:
        raise PictureFileError('cannot be decoded; it is truncated or damaged, in its header')
    if header[9] == _PALETTE and b'PLTE' not in kinds:
        raise PictureFileError('cannot be decoded; it is damaged: its palette is missing')
    if b'IEND' not in kinds:
        pixels.append(_chunk(b'IEND', b''))
    png = PngFile(b''.join(pixels), header[8], header[9] in (0, 4), frames)
    png.notes += [f'its PNG chunk {kind.decode("latin-1")} is damaged and was left out' for kind in damaged]
    for kind, body in described:
        try:
            _describe(png, kind, body)
        except (ValueError, IndexError, struct.error, zlib.error) as error:
            name = kind.decode('latin-1')
            png.notes.append(f'its PNG chunk {name} cannot be read and was left out ({error})')
    return png


def read_exif_and_xmp(content: bytes) -> tuple[bytes | None, bytes | None]:
    """EXIF and XMP as stored, each None if there is none, of a PNG or of its beginning; damaged chunks are left out."""
    png = PngFile(b'', 8, False, 1)
    for kind, whole, is_sound in _chunks(content):
        if is_sound and kind not in _PIXEL_CHUNKS:
            with contextlib.suppress(ValueError, IndexError, struct.error, zlib.error):
                _describe(png, kind, bytes(whole[8:-4]))
    return png.exif, png.xmp


def refuse_missing_rows(png: PngFile) -> None:
    """Raises a PictureFileError if the compressed pixels end before the last row, as decoders of 8 bits do not."""
    stream = deflate.decompressobj()
    found, expected = 0, 0
    try:
        for kind, whole, _ in _chunks(png.pixels):
            if kind == b'IHDR':
                expected = _bytes_of_rows(bytes(whole[8:-4]))
            packed: bytes | memoryview = whole[8:-4] if kind == b'IDAT' else b''
            while packed and found < expected and not stream.eof:
                found += len(stream.decompress(packed, _PIECE))
                packed = stream.unconsumed_tail
        found += len(stream.flush()) if found < expected else 0
    except _Damaged as error:
        raise PictureFileError(f'cannot be decoded; it is truncated or damaged: {error}') from error
    if found < expected:
        share = 100 * found // expected
        raise PictureFileError(f'cannot be decoded; it is truncated: {share}% of its pixels are there')


def _bytes_of_rows(header: bytes) -> int:
    """Bytes of all rows before compression, each with the number of its filter [7.2]."""
    width, height, bits, colour_type, _, _, interlacing = struct.unpack('>IIBBBBB', header)
    total = 0
    for left, top, across, down in _PASSES if interlacing else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * _CHANNELS.get(colour_type, 1) * bits // 8))
    return total


def write_png(
    file: BinaryIO,
    parts: Sequence[NDArray[Any]],
    chunks: Sequence[Chunk] = (),
    check: Callable[[], None] | None = None,
) -> None:
    """Writes a PNG of the channels of ``parts``: (h, w) or (h, w, c), uint8 or uint16; of 2 or 4 the last is alpha.

    Memory holds a few bands of rows beside the parts, so pictures may have any size. Large pictures are compressed in
    bands by several threads. ``check`` is called before each band; an exception that it raises ends the writing.
    """
    height, width = parts[0].shape[:2]
    channels, depth = sum((*part.shape, 1)[2] for part in parts), parts[0].dtype.itemsize
    file.write(SIGNATURE)
    size = struct.pack('>IIBBBBB', width, height, 8 * depth, _COLOUR_TYPES[channels], 0, 0, 0)
    for kind, content in ((b'IHDR', size), *chunks):
        file.write(_chunk(kind, content))
    step = channels * depth
    first_row = np.zeros((1, width * step), np.uint8)

    def rows_of(start: int, stop: int) -> NDArray[np.uint8]:
        bands = [part[start:stop] for part in parts]
        pixels = np.dstack(bands) if len(bands) > 1 else bands[0]
        return np.ascontiguousarray(pixels, dtype=f'>u{depth}').view(np.uint8).reshape(-1, width * step)

    number = _best_filter(rows_of, height, step)
    rows = max(1, _BAND // (width * step))

    def packed(start: int) -> tuple[bytes, int, int]:
        """A band as a part of a zlib stream, with the checksum and length of its bytes before compression."""
        if check is not None:
            check()
        band, above = rows_of(start, start + rows), rows_of(start - 1, start) if start else first_row
        filtered = _filtered(band, above, step, number).data
        packer = deflate.compressobj(_LEVEL, deflate.DEFLATED, -deflate.MAX_WBITS)
        # the last part ends the stream, the others end at a whole byte
        end = deflate.Z_FINISH if start + rows >= height else deflate.Z_SYNC_FLUSH
        return packer.compress(filtered) + packer.flush(end), deflate.adler32(filtered), filtered.nbytes

    total, start_of_stream = 1, b'\x78\x01'
    for content, checksum, length in _in_threads(packed, range(0, height, rows)):
        file.write(_chunk(b'IDAT', start_of_stream + content))
        total, start_of_stream = _joined_checksum(total, checksum, length), b''
    file.write(_chunk(b'IDAT', struct.pack('>I', total)))
    file.write(_chunk(b'IEND', b''))


def _in_threads(function: Callable[[int], _Result], items: Sequence[int]) -> Iterator[_Result]:
    """The results in order; few items are computed in the calling thread."""
    workers = min(usable_cores(), len(items) // _FEWEST_BANDS)
    if workers < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix='compressing') as pool:
        waiting: deque[Future[_Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _joined_checksum(first: int, second: int, length: int) -> int:
    """The Adler-32 checksum of two byte strings, from theirs and the length of the second (RFC 1950, section 8.2)."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return high % _ADLER << 16 | low % _ADLER


def profile_chunk(profile: bytes) -> Chunk:
    """[11.3.2.3]"""
    return b'iCCP', b'ICC profile\0\0' + zlib.compress(profile)


def resolution_chunk(dpi: tuple[float, float]) -> Chunk:
    """[11.3.4.3]"""
    across, down = (min(round(dots / _METRE), 2**31 - 1) for dots in dpi)
    return b'pHYs', struct.pack('>IIB', across, down, 1)


def xmp_chunk(xmp: bytes) -> Chunk:
    """[11.3.3.4]"""
    return b'iTXt', _XMP + b'\0\0\0\0\0' + xmp


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, bool]]:
    """(type, the whole chunk, whether it is complete and its checksum is right) [5.3]."""
    view, place = memoryview(content), len(SIGNATURE)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from('>I4s', content, place)
        whole = view[place : place + 12 + length]
        is_sound = len(whole) == 12 + length and deflate.crc32(whole[4:-4]) == int.from_bytes(whole[-4:], 'big')
        yield kind, whole, is_sound
        if kind == b'IEND':
            return
        place += 12 + length


def _starts_with_its_first_frame(content: bytes) -> bool:
    """Whether an animation's first frame is the picture itself: its fcTL comes before the pixels [11.3.6]."""
    for kind, _, _ in _chunks(content):
        if kind in (b'fcTL', b'IDAT'):
            return kind == b'fcTL'
    return False


def _describe(png: PngFile, kind: bytes, body: bytes) -> None:
    if kind == b'iCCP':
        png.icc_profile = _inflated(body[body.index(b'\0') + 2 :])
    elif kind == b'eXIf':
        png.exif = body.removeprefix(b'Exif\0\0')
    elif kind == b'pHYs':
        across, down, unit = struct.unpack('>IIB', body)
        png.dpi = (across * _METRE, down * _METRE) if unit == 1 else None
    elif kind in TEXT_CHUNKS:
        keyword = body[: body.index(b'\0')]
        if keyword == _XMP:
            png.xmp = _text(kind, body)
        elif keyword in _EXIF_TEXTS:
            hexadecimal = b''.join(_text(kind, body).split(b'\n')[3:])
            png.exif = png.exif or bytes.fromhex(hexadecimal.decode('ascii')).removeprefix(b'Exif\0\0')
        else:
            png.kept.append((kind, body))
    elif kind in _COLOUR_CHUNKS:
        png.kept.append((kind, body))


def _text(kind: bytes, body: bytes) -> bytes:
    """[11.3.3]"""
    _, _, rest = body.partition(b'\0')
    if kind == b'tEXt':
        return rest
    if kind == b'zTXt':
        return _inflated(rest[1:])
    is_compressed = rest[0] == 1
    text = rest[2:].split(b'\0', 2)[2]  # after a language and a translated keyword
    return _inflated(text) if is_compressed else text


def _inflated(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(packed, _LARGEST_TEXT)
    if not stream.eof:
        raise ValueError('truncated' if not stream.unconsumed_tail else 'too large')
    return content


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', deflate.crc32(kind + content))


def _best_filter(rows_of: Callable[[int, int], NDArray[np.uint8]], height: int, step: int) -> int:
    """The filter with the smallest differences in some rows of a picture."""
    places = sorted({max(1, height * part // _PLACES) for part in range(_PLACES)})
    tried_rows = min(_TRIED_ROWS, max(2, _TRIED // (_PLACES * rows_of(0, 1).size)))
    bands = [rows_of(place - 1, place + tried_rows) for place in places]

    def size_of_differences(number: int) -> int:
        tried = np.concatenate([_filtered(band[1:], band[:1], step, number) for band in bands])
        return int(np.minimum(tried, 0 - tried).sum(dtype=np.int64))

    return min(_FILTERS, key=size_of_differences)


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int, number: int) -> NDArray[np.uint8]:
    """Rows as differences to their neighbours, each after the number of its filter [9].

    Args:
        rows: (n, bytes of a row).
        above: The row before the first one; zeros at the top.
        step: Bytes of a pixel.
        number: The filter: the difference to the byte on the left, to that above, or to the mean of both. The fourth,
            Paeth's, saves 2% more on photographs and takes as long as all the rest.
    """
    count, length = rows.shape
    result = np.empty((count, length + 1), np.uint8)
    result[:, 0] = number
    differences = result[:, 1:]
    if number == _UP:
        np.subtract(rows[:1], above[:count], out=differences[:1])  # a picture of one row is tried without any row
        np.subtract(rows[1:], rows[:-1], out=differences[1:])
        return result
    if number == _LEFT:
        differences[:, :step] = rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=differences[:, step:])
        return result
    padded = np.zeros((count + 1, step + length), np.uint8)
    padded[0, step:], padded[1:, step:] = above[0], rows
    left, up = padded[1:, :-step], padded[:-1, step:]
    guess = np.bitwise_xor(left, up)  # the mean, rounded down, without exceeding a byte
    guess >>= 1
    guess += left & up
    np.subtract(rows, guess, out=differences)
    return result
