"""Reading prepared frames: LMDB in the toolbox's own format, whole frames and crops.

The format is that of the toolbox's ``utils/lmdb_util.py``: values are encoded pictures, keys are names without
extension, and ``meta_info.txt`` lists ``KEY.png (h,w,c) LEVEL``; LEVEL is 0 where the values are uncompressed BMP.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pdan_plugin.data.frame_codec import PictureError, decode_crop, decode_picture
from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.lmdb_environments import shared_environment

META_INFO = 'meta_info.txt'
_META_LINE = re.compile(r'(\S+?)(?:\.\w+)? \((\d+),(\d+),(\d+)\) (\d+)')


class FrameStore:
    """An LMDB store of frames. It holds no open handle of its own, so it may be pickled and forked.

    Raises:
        RequestError: No store here, an unfinished one, or a meta_info.txt that is not one. Reading raises it too,
        naming
            the key and the store.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        shared_environment(self.path)
        try:
            lines = (self.path / META_INFO).read_text().splitlines()
        except FileNotFoundError as error:
            raise RequestError(
                f'{self.path}: no {META_INFO} in this store, so it was never finished; make it again '
                '(python scripts/prepare_reds.py SOURCE TARGET)'
            ) from error
        known: dict[str, tuple[int, int, int]] = {}  # a store has a few shapes and many frames: share the tuples
        self._shapes: dict[str, tuple[int, int, int]] = {}
        levels = set()
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
                levels.add(match[5])
            self._shapes[name.split('.')[0]] = known[rest]
        self.keys = sorted(self._shapes)
        self.codec = 'bmp' if levels == {'0'} else 'png'

    def shape(self, key: str) -> tuple[int, int, int]:
        """(height, width, channels) as recorded when the frame was stored."""
        try:
            return self._shapes[key]
        except KeyError as error:
            raise RequestError(f'{self.path}: holds no frame {key!r}') from error

    def read(self, key: str) -> np.ndarray:
        """The whole frame, (h, w, 3) uint8 RGB."""
        with shared_environment(self.path).begin(buffers=True) as transaction:
            return self._decode(key, transaction.get(key.encode()), None)

    def read_crop(self, key: str, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part of the frame, (height, width, 3) uint8 RGB; of a BMP only that part is read from the memory map.

        Raises:
            ValueError: The crop does not lie inside the frame.
        """
        with shared_environment(self.path).begin(buffers=True) as transaction:
            return self._decode(key, transaction.get(key.encode()), (top, left, height, width))

    def _decode(self, key: str, value: memoryview | None, crop: tuple[int, int, int, int] | None) -> np.ndarray:
        if value is None:
            raise RequestError(f'{self.path}: holds no frame {key!r}')
        try:
            return decode_picture(value) if crop is None else decode_crop(value, *crop)
        except PictureError as error:
            raise RequestError(f'{self.path}: frame {key!r} {error}; make the store again') from error
