"""Reads whole frames and crops from stores: LMDBs in the toolbox's format.

The format is that of the toolbox's ``utils/lmdb_util.py``. Values are encoded pictures, keys are names without
extension. ``meta_info.txt`` lists ``KEY.png (h,w,c) LEVEL``; LEVEL is the PNG compression, or 0 in this package's
stores of uncompressed BMP. A value's kind is read from its first bytes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from pdan_plugin.data.frame_codec import (
    HEADER_BYTES,
    PictureError,
    decode_crop,
    decode_picture,
    picture_shape,
    row_extent,
)
from pdan_plugin.data.lmdb_environments import data_file
from pdan_plugin.data.lmdb_values import MappedValues, UnknownLayout
from pdan_plugin.errors import RequestError

META_INFO = 'meta_info.txt'
_META_LINE = re.compile(r'(\S+?)(?:\.\w+)? \((\d+),(\d+),(\d+)\) \d+')


class FrameStore:
    """An LMDB store of frames, read from its memory map. It may be pickled and forked; the store must not be written.

    Raises:
        RequestError: There is no store, it is unfinished or damaged, or its meta_info.txt has another format. Reading a
            frame raises it too and names key and store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._values: MappedValues | None = None
        data_file(self.path)
        try:
            lines = (self.path / META_INFO).read_text(encoding='utf-8').splitlines()
        except UnicodeDecodeError as error:
            raise RequestError(f'{self.path / META_INFO}: is not UTF-8 text ({error}); make the store again') from error
        except OSError as error:  # it is missing, or a folder
            raise RequestError(
                f'{self.path}: no {META_INFO} in this store, so it is unfinished; make it again '
                '(basicsr prepare-reds SOURCE TARGET)'
            ) from error
        known: dict[str, tuple[int, int, int]] = {}  # a store has a few shapes and many frames: share the tuples
        self._shapes: dict[str, tuple[int, int, int]] = {}
        for number, line in enumerate(lines, 1):
            name, _, rest = line.partition(' ')
            match = _META_LINE.fullmatch(line)
            if match is None:
                raise RequestError(
                    f'{self.path / META_INFO}, line {number}: {line!r} is not of the form NAME.png '
                    '(height,width,channels) LEVEL'
                )
            if rest not in known:
                known[rest] = (int(match[2]), int(match[3]), int(match[4]))
            self._shapes[name.split('.')[0]] = known[rest]
        self.keys = sorted(self._shapes)
        values = self._mapped()
        missing = [key for key in self.keys if key not in values]
        if missing:
            raise RequestError(
                f'{self.path}: {META_INFO} lists {len(missing)} frames that are not in the store, such as '
                f'{missing[0]!r}; make the store again, or copy it again'
            )
        self.codec = 'bmp' if self.keys and bytes(values[self.keys[0]][:2]) == b'BM' else 'png'

    def shape(self, key: str) -> tuple[int, int, int]:
        """(height, width, channels) as recorded when the frame was stored."""
        try:
            return self._shapes[key]
        except KeyError as error:
            raise RequestError(f'{self.path}: holds no frame {key!r}') from error

    def read(self, key: str) -> np.ndarray:
        """The whole frame, (h, w, 3) uint8 RGB."""
        value = self._value(key)
        self._mapped().expect(key, 0, len(value))
        return self._decoded(key, value, None)

    def read_crop(self, key: str, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of the frame, (height, width, 3) uint8 RGB; from a BMP only its rows are read.

        Raises:
            ValueError: The crop does not lie inside the frame.
        """
        return self._decoded(key, self._value(key), (top, left, height, width))

    def expect_crop(self, key: str, top: int, height: int) -> None:
        """Announce a `read_crop` of these rows, so that the system starts to load them if they are not in memory."""
        value = self._value(key)
        start, stop = (0, len(value)) if self.codec == 'png' else row_extent(self.shape(key), top, height)
        values = self._mapped()
        values.expect(key, 0, HEADER_BYTES)
        values.expect(key, start, stop)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_values': None}

    def _mapped(self) -> MappedValues:
        if self._values is None:
            file = data_file(self.path)
            try:
                self._values = MappedValues(file)
            except UnknownLayout as error:
                raise RequestError(f'{file}: {error}; make the store again, or copy it again') from error
            except OSError as error:
                raise RequestError(f'{file}: cannot be read ({error.strerror})') from error
        return self._values

    def _value(self, key: str) -> memoryview:
        try:
            return self._mapped()[key]
        except KeyError as error:
            raise RequestError(f'{self.path}: holds no frame {key!r}') from error

    def _decoded(self, key: str, value: memoryview, crop: tuple[int, int, int, int] | None) -> np.ndarray:
        try:
            shape = picture_shape(value)
            if shape != self.shape(key):
                raise PictureError(f'is {shape[1]}x{shape[0]}, but {META_INFO} has {self.shape(key)} for it')
            return decode_picture(value) if crop is None else decode_crop(value, *crop)
        except PictureError as error:
            raise RequestError(f'{self.path}: frame {key!r} {error}; make the store again') from error
