"""Which files of a folder are pictures, and the sizes of pictures, read from their first bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from os import path as osp
from typing import Any

import cv2
from basicsr.utils.img_util import imfrombytes  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from basicsr.utils.logger import get_root_logger  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from PIL import Image

from pdan_plugin.data.sourced_bytes import SourcedBytes
from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES

_PNG = b'\x89PNG\r\n\x1a\n'
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
_ORIENTATION = 274


def only_pictures(folder: str, names: Iterable[str]) -> list[str]:
    """The names that belong to pictures; a warning in the log lists the others, such as Thumbs.db.

    A name with a picture's ending counts as one, so that a damaged picture is reported when it is read. Of other names
    the content decides.

    Args:
        folder: The folder of the names.
        names: Paths relative to it.
    """
    pictures: list[str] = []
    others: list[str] = []
    for name in names:
        is_picture = osp.splitext(name)[1].lower() in PICTURE_SUFFIXES or cv2.haveImageReader(osp.join(folder, name))
        (pictures if is_picture else others).append(name)
    report_left_out(folder, others, 'they are no pictures')
    return pictures


def report_left_out(folder: str | os.PathLike[str], names: Iterable[str], reason: str) -> None:
    """A warning in the log about files of a folder that are not read, if there are any."""
    names = sorted(names)
    if names:
        _warn(f'{folder}: left out, because {reason}: {some_of(names)}')


@cache
def _warn(text: str) -> None:
    """A warning in the log, once for each text: lists are made again for the check, the run and each data set."""
    get_root_logger().warning(text)


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of a picture as the toolbox decodes it, upright.

    Only the first bytes are read, unless they leave a doubt; then the picture is decoded.

    Raises:
        RequestError: It cannot be read, is empty, or is no picture; the message names the file.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise RequestError(f'{path}: is a pipe, a socket or a device, expected a picture; remove it')
    try:
        with open(path, 'rb') as file:
            head = file.read(4096)
            if head[:8] == _PNG and head[12:16] == b'IHDR' and b'eXIf' not in head:
                width, height = (int.from_bytes(head[start : start + 4], 'big') for start in (16, 20))
                if width and height:
                    return height, width
            file.seek(0)
            try:
                opened: Any = Image.open(file)
                with opened as image:
                    width, height = image.size
                    if image.format in ('JPEG', 'BMP') and image.getexif().get(_ORIENTATION, 1) not in _TURNED:
                        return height, width
            except Exception:  # Pillow knows fewer formats than OpenCV; the toolbox's reader names what is wrong
                pass
            file.seek(0)
            decoded: Any = imfrombytes(SourcedBytes(file.read(), str(path)))
            return decoded.shape[:2]
    except OSError as error:
        raise RequestError(f'{path}: cannot be read ({error.strerror or error})') from error
