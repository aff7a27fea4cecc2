"""Whether a file is a picture or a video: by its content, not by its ending."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pdan_plugin.media.picture import PictureFileError
from pdan_plugin.media.picture_files import read_picture_header
from pdan_plugin.media.video_source import VIDEO_SUFFIXES

Kind = Literal['picture', 'video']

_START = 1024  # bytes: five packets of a transport stream
_STILL_BRANDS = (b'avif', b'avis', b'heic', b'heix', b'mif1', b'msf1')  # in the same container as MP4
_CONTAINERS = (
    b'\x1aE\xdf\xa3',  # Matroska, WebM
    b'\x30\x26\xb2\x75\x8e\x66\xcf\x11',  # ASF: WMV
    b'FLV\x01',
    b'OggS',
    b'\0\0\x01\xba',  # MPEG program stream: MPG, VOB
    b'\0\0\x01\xb3',  # MPEG elementary stream
)
_BOXES = (b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')  # of MOV files without ftyp
_PACKETS = ((0, 188), (4, 192))  # transport stream: first synchronisation byte and distance; M2TS has a time before it


def kind_of(path: Path) -> Kind:
    """What a file is to be restored as. If its content is neither picture nor video, the ending decides.

    Pictures win: decoders of videos read many picture files too.
    """
    by_ending: Kind = 'video' if path.suffix.lower() in VIDEO_SUFFIXES else 'picture'
    if not path.is_file():  # reading a pipe might block for ever
        return by_ending
    try:
        read_picture_header(path)
        return 'picture'
    except PictureFileError:
        with path.open('rb') as file:
            return 'video' if _is_video(file.read(_START)) else by_ending
    except OSError:  # reported when it is restored
        return by_ending


def _is_video(start: bytes) -> bool:
    if start.startswith(_CONTAINERS) or (start[:4] == b'RIFF' and start[8:12] == b'AVI '):
        return True
    if start[4:8] == b'ftyp':
        return start[8:12] not in _STILL_BRANDS
    if start[4:8] in _BOXES:
        return True
    return any(
        len(start) > first + 4 * distance and all(start[first + n * distance] == 0x47 for n in range(5))
        for first, distance in _PACKETS
    )
