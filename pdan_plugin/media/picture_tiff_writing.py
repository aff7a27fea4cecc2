"""Writes TIFFs of 8 and 16 bits with their EXIF, which neither tifffile nor libtiff writes into a compressed file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_HEADER = b'II*\0\x08\0\0\0'
_TABLES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_DESCRIPTION, _SOFTWARE = 270, 305
_TEXTS = (271, 272, 306, 315, 316, 33432)  # maker, model, time, artist, computer, copyright
_WINDOWS = range(40091, 40096)  # title, comment, author, keywords and subject of Windows' Explorer
_BYTE, _ASCII, _LONG, _UNDEFINED = 1, 2, 4, 7


def save_tiff(
    path: Path,
    pixels: NDArray[Any],
    *,
    is_grey: bool,
    has_alpha: bool,
    blocks: Mapping[int, bytes | None],
    exif: bytes | None,
    dpi: tuple[float, float] | None,
) -> None:
    """Writes a compressed TIFF.

    Args:
        pixels: (h, w) or (h, w, c), uint8 or uint16; with alpha the last channel is it.
        blocks: Tags of bytes, such as the colour profile.
        exif: From its TIFF header on.
        dpi: Pixels per inch, across and down.

    Raises:
        OSError: The file cannot be written.
    """
    tags = Image.Exif()
    tags.load(exif or b'')
    tables = {int(tag): dict(tags.get_ifd(tag)) for tag in _TABLES if tag in tags}
    texts = {tag: _text(tags[tag]) for tag in (_DESCRIPTION, _SOFTWARE, *_TEXTS) if tag in tags}
    extra = [(tag, _UNDEFINED, len(value), value, True) for tag, value in blocks.items() if value is not None]
    extra += [(tag, _ASCII, len(texts[tag]) + 1, texts[tag] + b'\0', True) for tag in _TEXTS if tag in texts]
    for tag in _WINDOWS:
        if isinstance(value := tags.get(tag), bytes):
            extra.append((tag, _BYTE, len(value), value, True))
    tifffile.imwrite(
        path,
        pixels,
        byteorder='<',
        bigtiff=False,
        photometric='minisblack' if is_grey else 'rgb',
        planarconfig=None if pixels.ndim == 2 else 'contig',
        extrasamples=['unassalpha'] if has_alpha else None,
        compression='zlib',
        predictor=2,
        resolution=dpi,
        resolutionunit=None if dpi is None else 2,  # inches
        description=texts.get(_DESCRIPTION),
        software=texts.get(_SOFTWARE, False),
        extratags=extra,
        metadata=None,
    )
    if tables:
        _append_tables(path, tables)


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode('latin-1', 'replace')


def _append_tables(path: Path, tables: Mapping[int, Mapping[int, Any]]) -> None:
    """Writes the tables of EXIF behind the picture, and then its own table again, with their places in it.

    TIFF 6.0, section 2: a table has a count, entries of 12 bytes in the order of their tags, and the place of the next.
    """
    with path.open('r+b') as file:
        file.seek(4)
        (start,) = struct.unpack('<I', file.read(4))
        file.seek(start)
        (count,) = struct.unpack('<H', file.read(2))
        entries = [file.read(12) for _ in range(count)]
        for tag, values in tables.items():
            place = _even_end(file)
            table = ImageFileDirectory_v2(_HEADER)
            for key, value in values.items():
                table[key] = value
            file.write(table.tobytes(place))
            entries.append(struct.pack('<HHII', tag, _LONG, 1, place))
        place = _even_end(file)
        entries.sort(key=lambda entry: int.from_bytes(entry[:2], 'little'))
        file.write(struct.pack('<H', len(entries)) + b''.join(entries) + bytes(4))
        file.seek(4)
        file.write(struct.pack('<I', place))


def _even_end(file: BinaryIO) -> int:
    """Moves to the end of a file, made even, and returns its place."""
    place = file.seek(0, 2)
    return place + file.write(bytes(place % 2))
