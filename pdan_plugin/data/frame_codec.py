"""Encodes and decodes 8-bit RGB pictures strictly: a damaged picture is an error, never a partly filled frame.

From an uncompressed BMP a crop can be copied out of a memory map without decoding the frame. A PNG takes about half the
space.
"""

from __future__ import annotations

import hashlib
import struct
import zlib

import cv2
import numpy as np

CODECS = ('bmp', 'png')
PNG_COMPRESSION = 1  # the toolbox's level: larger files, but fast to write
HEADER_BYTES = 33  # bytes at a file's beginning that `picture_shape` needs

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_BMP_HEADER_BYTES = 54


class PictureError(ValueError):
    """The bytes are not a whole picture of the expected kind. The message has the fault, not the bytes' source."""


def encode_picture(image: np.ndarray, codec: str) -> bytes:
    """(h, w, 3) uint8 RGB to the bytes of a 24-bit BMP or an 8-bit PNG.

    Raises:
        ValueError: The image is not (h, w, 3) uint8 or the codec is not one of ``CODECS``.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'expected an (h, w, 3) uint8 image, got shape {image.shape}, {image.dtype}')
    if codec not in CODECS:
        raise ValueError(f'codec must be one of {", ".join(CODECS)}, got {codec!r}')
    settings = [cv2.IMWRITE_PNG_COMPRESSION, PNG_COMPRESSION] if codec == 'png' else []
    encoded, data = cv2.imencode(f'.{codec}', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    if not encoded:
        raise ValueError(f'OpenCV could not write a {image.shape} image as {codec}')
    return data.tobytes()


def picture_shape(data: bytes | memoryview) -> tuple[int, int, int]:
    """(height, width, 3) of a PNG or BMP from its first ``HEADER_BYTES`` bytes.

    Raises:
        PictureError: Neither an 8-bit RGB PNG nor an uncompressed 24-bit BMP.

    >>> picture_shape(encode_picture(np.zeros((4, 6, 3), np.uint8), 'png'))
    (4, 6, 3)
    """
    head = bytes(data[:HEADER_BYTES])
    if head[:2] == b'BM':
        _, width, height = _bmp_layout(head)
        return abs(height), width, 3
    if len(head) < HEADER_BYTES or head[:8] != _PNG_SIGNATURE or head[12:16] != b'IHDR':
        raise PictureError('is not a PNG or BMP picture')
    width, height, depth, colour = struct.unpack('>IIBB', head[16:26])
    if (depth, colour) != (8, 2):
        kinds = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey with alpha', 6: 'RGB with alpha'}
        raise PictureError(f'is {depth}-bit {kinds.get(colour, "unknown")}, expected 8-bit RGB')
    return height, width, 3


def decode_picture(data: bytes | memoryview) -> np.ndarray:
    """The whole picture as stored, (h, w, 3) uint8 RGB; OpenCV 5 alone would turn it by its EXIF.

    Raises:
        PictureError: The picture is truncated, damaged, or of another kind.
    """
    height, width, _ = picture_shape(data)
    if bytes(data[:2]) == b'BM':
        return decode_crop(data, 0, 0, height, width)
    _check_png(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape != (height, width, 3):
        raise PictureError('is a damaged PNG')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_crop(data: bytes | memoryview, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A part of the picture, (height, width, 3) uint8 RGB; from a BMP only that part's bytes are read.

    Raises:
        PictureError: As `decode_picture`.
        ValueError: The crop does not lie inside the picture.
    """
    full_height, full_width, _ = picture_shape(data)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > full_height or left + width > full_width:
        raise ValueError(
            f'a crop of {height}x{width} at row {top}, column {left} is not inside a picture of '
            f'{full_height}x{full_width}'
        )
    if bytes(data[:2]) != b'BM':
        return decode_picture(data)[top : top + height, left : left + width]
    start, _, signed_height = _bmp_layout(bytes(data[:HEADER_BYTES]))
    stride = _row_bytes(full_width)
    if len(data) < start + stride * full_height:
        raise PictureError(f'is a truncated BMP ({len(data)} bytes, expected {start + stride * full_height})')
    pixels = np.frombuffer(data, np.uint8, count=stride * full_height, offset=start)
    rows = pixels.reshape(full_height, stride)  # pyright: ignore[reportUnknownMemberType]
    if signed_height > 0:  # rows lie bottom up
        rows = rows[::-1]
    # Make a contiguous copy first: OpenCV would copy the strided view pixel by pixel.
    crop = np.ascontiguousarray(rows[top : top + height, left * 3 : (left + width) * 3])
    return cv2.cvtColor(crop.reshape(height, width, 3), cv2.COLOR_BGR2RGB)  # pyright: ignore[reportUnknownMemberType]


def row_extent(shape: tuple[int, int, int], top: int, height: int) -> tuple[int, int]:
    """Byte range (start, stop) of rows in a BMP made by `encode_picture`: a header, then the rows from the last up."""
    stride = _row_bytes(shape[1])
    return _BMP_HEADER_BYTES + (shape[0] - top - height) * stride, _BMP_HEADER_BYTES + (shape[0] - top) * stride


def bmp_bytes(height: int, width: int) -> int:
    """The size of a BMP made by `encode_picture`."""
    return _BMP_HEADER_BYTES + height * _row_bytes(width)


def picture_checksum(image: np.ndarray) -> str:
    """A checksum of the pixels and the shape, the same for every codec."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _row_bytes(width: int) -> int:
    return (width * 3 + 3) // 4 * 4  # whole 32-bit words


def _bmp_layout(head: bytes) -> tuple[int, int, int]:
    """(offset of the pixels, width, height; a negative height means top down) of an uncompressed 24-bit BMP."""
    if len(head) < HEADER_BYTES:
        raise PictureError(f'is a truncated BMP ({len(head)} bytes)')
    start, _, width, height, _, depth = struct.unpack('<IIiiHH', head[10:30])
    # The header read has only three bytes of the compression field (bytes 30 to 33); its values are small numbers.
    if depth != 24 or head[30:33] != b'\0\0\0' or start < _BMP_HEADER_BYTES or width < 1 or height == 0:
        raise PictureError(f'is a {depth}-bit or compressed BMP, expected uncompressed 24-bit')
    return start, width, height


def _check_png(data: bytes | memoryview) -> None:
    """Check a PNG's chunks and their checksums: OpenCV versions differ in what they return for a truncated PNG."""
    view = memoryview(data)
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(view):
        (length,) = struct.unpack('>I', view[position : position + 4])
        end = position + 12 + length
        if end > len(view):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack('>I', view[end - 4 : end])[0]:
            raise PictureError('is a damaged PNG (a checksum does not match)')
        if bytes(view[position + 4 : position + 8]) == b'IEND':
            return
        position = end
    raise PictureError(f'is a truncated PNG ({len(view)} bytes)')
