"""Reads frames that are not in a store: from a folder of clips or from a zip."""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np

from pdan_plugin.data.frame_codec import HEADER_BYTES, PictureError, decode_crop, decode_picture, picture_shape
from pdan_plugin.data.reds_layout import Place, key_of_member
from pdan_plugin.data.training_pictures import report_left_out
from pdan_plugin.errors import RequestError
from pdan_plugin.files.folder_walk import STRAY_FOLDERS
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES

_ONLY_PNG = 'only names that end in .png are read (basicsr prepare-pairs converts pictures)'


class Frames(Protocol):
    """The interface of a set of frames. Pictures are (h, w, 3) uint8 RGB; keys are sorted."""

    keys: list[str]

    def shape(self, key: str) -> tuple[int, int, int]: ...

    def read(self, key: str) -> np.ndarray: ...

    def read_crop(self, key: str, top: int, left: int, height: int, width: int) -> np.ndarray: ...


class _EncodedFrames(ABC):
    """Base class for frames stored as encoded pictures; subclasses read the bytes."""

    @abstractmethod
    def name_of(self, key: str) -> str:
        """The picture's path, for messages."""

    @abstractmethod
    def read_bytes(self, key: str, count: int = -1) -> bytes:
        """The first ``count`` bytes of the picture, or all; raises RequestError if they cannot be read."""

    def shape(self, key: str) -> tuple[int, int, int]:
        try:
            return picture_shape(self.read_bytes(key, HEADER_BYTES))
        except PictureError as error:
            raise RequestError(f'{self.name_of(key)}: {error}') from error

    def read(self, key: str) -> np.ndarray:
        try:
            return decode_picture(self.read_bytes(key))
        except PictureError as error:
            raise RequestError(f'{self.name_of(key)}: {error}') from error

    def read_crop(self, key: str, top: int, left: int, height: int, width: int) -> np.ndarray:
        try:
            return decode_crop(self.read_bytes(key), top, left, height, width)
        except PictureError as error:
            raise RequestError(f'{self.name_of(key)}: {error}') from error


class FrameFolder(_EncodedFrames):
    """A folder of frames: ``CLIP/FRAME.png`` as in REDS, or ``NAME.png`` as in the toolbox.

    Args:
        folder: The folder of clips.
        plain: Whether pictures directly in the folder are frames too; their keys are their names.

    Raises:
        RequestError: There is no such folder, it has no frame, or it has both clips and pictures. Reading a frame
            raises it too and names the file.
    """

    def __init__(self, folder: str | Path, *, plain: bool = False) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise RequestError(f'{self.path}: no such folder')
        clips, beside, others = _listed(self.path)
        report_left_out(self.path, others, _ONLY_PNG)
        in_clips: list[str] = []
        for clip in clips:
            deeper, keys, others = _listed(self.path / clip)
            in_clips += [f'{clip}/{key}' for key in keys]
            report_left_out(self.path / clip, others, _ONLY_PNG)
            report_left_out(self.path / clip, deeper, 'folders in the folder of a clip are not read')
        beside = beside if plain else []
        if in_clips and beside:
            raise RequestError(
                f'{self.path}: holds pictures ({beside[0]}.png) beside folders of pictures ({in_clips[0]}.png); '
                'keep only one of the two'
            )
        self.keys = sorted(in_clips or beside)
        if not self.keys:
            also = ' or NAME.png' if plain else ''
            raise RequestError(f'{self.path}: no frames here (expected CLIP/FRAME.png, such as 000/00000000.png{also})')

    def name_of(self, key: str) -> str:
        return str(self.path / f'{key}.png')

    def size_of(self, key: str) -> int:
        """Bytes of the picture as it is stored."""
        return os.stat(self.name_of(key)).st_size

    def read_bytes(self, key: str, count: int = -1) -> bytes:
        try:
            with open(self.name_of(key), 'rb') as file:
                return file.read(count)
        except OSError as error:
            raise RequestError(f'{self.name_of(key)}: cannot be read ({error.strerror})') from error


def _listed(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """The folders, the keys of the pictures, and the pictures of other endings, without hidden and stray ones."""
    folders: list[str] = []
    keys: list[str] = []
    others: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.') or entry.name in STRAY_FOLDERS:
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif entry.name.endswith('.png'):
                keys.append(entry.name.removesuffix('.png'))
            elif entry.name.lower().endswith(PICTURE_SUFFIXES):
                others.append(entry.name)
    return folders, keys, others


class FrameArchive(_EncodedFrames):
    """One of REDS's zips, read without unpacking; ``name`` is the set in it, such as ``train_sharp``.

    Several threads may read from it at the same time.

    Raises:
        RequestError: The zip cannot be read, or it has no frame of the set.
    """

    def __init__(self, path: str | Path, name: str) -> None:
        self.path = Path(path)
        try:
            self._archive = zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError) as error:  # ValueError: undecodable names
            raise RequestError(f'{self.path}: not a readable zip ({error}); download it again') from error
        self._members: dict[str, str] = {}
        for member in self._archive.namelist():
            key = key_of_member(member, name)
            if key is not None:
                self._members[key] = member
        self.keys = sorted(self._members)
        if not self.keys:
            self._archive.close()
            raise RequestError(
                f'{self.path}: no frames of {name} in this zip (expected .../{name}/.../000/00000000.png)'
            )

    def name_of(self, key: str) -> str:
        return f'{self.path}: {self._members[key]}'

    def size_of(self, key: str) -> int:
        return self._archive.getinfo(self._members[key]).file_size

    def read_bytes(self, key: str, count: int = -1) -> bytes:
        try:
            with self._archive.open(self._members[key]) as file:
                return file.read(count)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:  # RuntimeError: encrypted
            raise RequestError(f'{self.name_of(key)}: cannot be read ({error})') from error

    def close(self) -> None:
        self._archive.close()


def open_place(place: Place, name: str) -> FrameFolder | FrameArchive:
    """The frames of a set at the place that `reds_layout.find_set` found."""
    return FrameArchive(place.path, name) if place.is_archive else FrameFolder(place.path)
