"""Which files are videos: by their first bytes, and by their ending if these say nothing."""

from __future__ import annotations

import re
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture import PictureFileError
from pdan_plugin.media.picture_files import read_picture_header
from pdan_plugin.media.video_source import VIDEO_SUFFIXES, VideoFileError, open_video, picture_stream

_HEAD = 4096
_BEGINNINGS = (
    b'\x1aE\xdf\xa3',  # Matroska, WebM
    b'0&\xb2u\x8ef\xcf\x11',  # Windows Media
    b'FLV\x01',
    b'\0\0\x01\xba',  # MPEG program stream, also of a DVD
    b'\0\0\x01\xb3',  # MPEG pictures alone
    b'OggS',
    b'\x06\x0e+4\x02\x05\x01\x01',  # MXF
    b'\x1f\x07\0',  # DV
    b'.RMF',
    b'DKIF',
    b'YUV4MPEG2 ',
    b'nut/multimedia container\0',
    b'\xb7\xd8\0 7I\xda\x11\xa6N\0\x07\xe9^\xad\x8d',  # Windows' recordings of television
    b'DHAV',  # surveillance cameras
    b'\0\0\0\0\x01\xbc',  # GXF
    b'\x12\0\x0a',  # AV1 without a container
)
# pictures without a container, behind their start code: H.264's and H.265's first units, and MPEG-4's
_RAW = re.compile(rb'\0{2,3}\x01(?:[\x07\x09\x27\x29\x47\x49\x67\x69]|[\x40\x42\x46]\x01|\xb0)', re.DOTALL)
_RAW_JPEGS = ('.mjpeg', '.mjpg')  # which begin like a picture
_FIRST_BOXES = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip', b'pnot')  # QuickTime, MP4
_PICTURE_BRANDS = (b'avif', b'avis', b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1', b'crx ')
_PACKETS = (188, 192, 204)  # sizes of a transport stream's packets; each begins with 47 (hexadecimal)
_PACKETS_SEEN = 8


def is_video_file(path: Path) -> bool:
    """Whether a file is to be read as a video.

    A file that begins like a video is one, whatever its name; if its ending is not that of a video, it must have
    pictures, because sound is stored in the same formats. Any other file is one by its ending, unless it is a picture.
    """
    has_ending = path.suffix.lower() in VIDEO_SUFFIXES
    if has_video_content(path) or path.suffix.lower() in _RAW_JPEGS:
        return has_ending or _has_pictures(path)
    return has_ending and not (path.is_file() and _is_picture(path))


def has_video_content(path: Path) -> bool:
    """Whether a file that can be read begins like a video or sound. A pipe is not read."""
    if not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            return begins_like_video(file.read(_HEAD))
    except OSError:
        return False


def begins_like_video(head: bytes) -> bool:
    """Whether the first 4096 bytes of a file are those of a format for video and sound."""
    if head[4:8] in _FIRST_BOXES:
        return head[4:8] != b'ftyp' or head[8:12] not in _PICTURE_BRANDS
    if head[:4] == b'RIFF':
        return head[8:12] in (b'AVI ', b'CDXA')
    return head.startswith(_BEGINNINGS) or _RAW.match(head) is not None or _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    """Also one that begins inside a packet."""
    return any(
        head[start::size][:_PACKETS_SEEN] == b'\x47' * _PACKETS_SEEN for size in _PACKETS for start in range(size)
    )


def _has_pictures(path: Path) -> bool:
    try:
        with open_video(path) as container:
            picture_stream(container)
    except (VideoFileError, RequestError, OSError):
        return False
    return True


def _is_picture(path: Path) -> bool:
    try:
        read_picture_header(path)
    except (PictureFileError, OSError):
        return False
    return True
