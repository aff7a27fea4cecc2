"""Writing a store of frames so that a kill at any moment loses nothing and never leaves half a store in place.

While it is written, ``NAME.lmdb`` lies beside its final place as ``NAME.lmdb.partial``. Frames are committed in
batches; after each, their shapes and checksums are appended to ``checksums.txt``. Only a finished store, with its
``meta_info.txt``, is renamed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import IO

import lmdb
import numpy as np

from pdan_plugin.data.frame_codec import (
    CODECS,
    PNG_COMPRESSION,
    PictureError,
    decode_picture,
    encode_picture,
    picture_checksum,
)
from pdan_plugin.data.frame_store import META_INFO
from pdan_plugin.errors import RequestError

CHECKSUMS = 'checksums.txt'
_ORIGIN = 'origin.json'
_BATCH_BYTES = 64 << 20
_SMALLEST_MAP = 256 << 20
_PAGE = 4096
_CHECKSUM_LINE = re.compile(r'(\S+) \((\d+),(\d+),(\d+)\) ([0-9a-f]{32})\n')

Record = tuple[tuple[int, int, int], str]  # shape, checksum of the pixels


def bytes_on_disk(value_bytes: int) -> int:
    """What a value of that size takes in LMDB: whole pages of its own, and its share of the tree."""
    return (value_bytes + 16 + _PAGE - 1) // _PAGE * _PAGE + 128


def partial_path(path: str | Path) -> Path:
    """Where a store lies until it is finished."""
    path = Path(path)
    return path.with_name(path.name + '.partial')


def read_checksums(store: str | Path) -> dict[str, Record]:
    """Shape and checksum of each frame of a store made by `FrameStoreWriter`, finished or not; empty without any."""
    file = Path(store) / CHECKSUMS
    if not file.exists():
        return {}
    with file.open(newline='\n') as lines:
        return _parse_checksums(lines.read())[0]


class FrameStoreWriter:
    """Writes the store ``path`` (``....lmdb``); use it in a ``with`` statement and call `finish` at the end.

    Left without `finish`, by an exception or a kill, everything committed stays in the partial store and the next
    writer of the same path goes on from there: `done` says which frames it has. ``origin`` names where the frames come
    from; a partial store of another origin or codec is not continued.

    Raises:
        RequestError: The store is there already, its partial form belongs to another origin or codec, or another
        process
            is writing it.
    """

    def __init__(self, path: str | Path, *, codec: str = 'bmp', origin: str = '') -> None:
        self.path = Path(path)
        if self.path.suffix != '.lmdb':
            raise RequestError(f'{self.path}: the name of a store must end in .lmdb')
        if codec not in CODECS:
            raise RequestError(f'codec must be one of {", ".join(CODECS)}, got {codec!r}')
        if self.path.exists():
            raise RequestError(f'{self.path}: is there already; remove it to make it anew')
        self.codec = codec
        self._folder = partial_path(self.path)
        self._pending: dict[str, tuple[bytes, Record]] = {}
        self._pending_bytes = 0
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal = _open_alone(self._folder / CHECKSUMS, self.path)
        try:
            self._check_origin({'codec': codec, 'origin': origin})
            data_file = self._folder / 'data.mdb'
            size = data_file.stat().st_size if data_file.exists() else 0
            self._environment = lmdb.open(str(self._folder), map_size=max(2 * size, _SMALLEST_MAP), readahead=False)
        except BaseException:
            self._journal.close()
            raise
        self._closed = False
        self._records = self._recover()

    @property
    def done(self) -> frozenset[str]:
        """Keys that are safely in the store or waiting for the next commit."""
        return frozenset(self._records) | frozenset(self._pending)

    def add(self, key: str, image: np.ndarray) -> None:
        """Store a frame, (h, w, 3) uint8 RGB, under its key ``CLIP/FRAME``."""
        shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))
        self.add_encoded(key, encode_picture(image, self.codec), shape, picture_checksum(image))

    def add_encoded(self, key: str, data: bytes, shape: tuple[int, int, int], checksum: str) -> None:
        """Store a frame that was encoded (`frame_codec.encode_picture`) and summed (`picture_checksum`) elsewhere."""
        if not key or '.' in key or any(character.isspace() for character in key):
            raise ValueError(
                f'a key must not be empty nor hold a dot or a space (meta_info.txt could not name it): {key!r}'
            )
        self._pending[key] = (data, (shape, checksum))
        self._pending_bytes += len(data)
        if self._pending_bytes >= _BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make everything added so far safe."""
        if not self._pending:
            return
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, (data, _) in self._pending.items():
                        transaction.put(key.encode(), data)
                break
            except lmdb.MapFullError:  # the transaction was undone; the whole batch is still here
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])
        for key, (_, (shape, checksum)) in self._pending.items():
            self._journal.write(f'{key} {_shape_text(shape)} {checksum}\n')
            self._records[key] = (shape, checksum)
        self._journal.flush()
        self._pending.clear()
        self._pending_bytes = 0

    def finish(self) -> None:
        """Commit, write meta_info.txt, and put the store in its place."""
        self.commit()
        os.fsync(self._journal.fileno())
        level = PNG_COMPRESSION if self.codec == 'png' else 0
        lines = [f'{key}.png {_shape_text(self._records[key][0])} {level}\n' for key in sorted(self._records)]
        _write_atomically(self._folder / META_INFO, ''.join(lines))
        self._environment.close()
        self._closed = True
        for name in (_ORIGIN, 'lock.mdb'):
            (self._folder / name).unlink(missing_ok=True)
        self._folder.rename(self.path)
        self._journal.close()

    def close(self) -> None:
        """Commit and stop, leaving an unfinished store for the next writer; after `finish`, nothing."""
        if self._closed:
            return
        try:
            self.commit()
        finally:
            self._environment.close()
            self._journal.close()
            self._closed = True

    def __enter__(self) -> FrameStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_origin(self, wanted: dict[str, str]) -> None:
        file = self._folder / _ORIGIN
        if not file.exists():
            _write_atomically(file, json.dumps(wanted))
            return
        found = json.loads(file.read_text())
        if found != wanted:
            raise RequestError(
                f'{self._folder}: begun with {_origin_text(found)}, now asked for {_origin_text(wanted)}; '
                'go on as it was begun, or remove this folder to begin anew'
            )

    def _recover(self) -> dict[str, Record]:
        """What an earlier writer left: journal and LMDB are made to agree, the LMDB being what counts."""
        self._journal.seek(0)
        records, whole = _parse_checksums(self._journal.read())
        with self._environment.begin(buffers=True) as transaction:
            stored = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
            kept = {key: records[key] for key in stored if key in records}
            for key in stored:
                if key not in kept:  # killed between the commit and its line in the journal
                    try:
                        image = decode_picture(transaction.get(key.encode(), b''))
                    except PictureError as error:
                        raise RequestError(f'{self._folder}: frame {key!r} {error}; remove this folder') from error
                    kept[key] = ((image.shape[0], image.shape[1], 3), picture_checksum(image))
        if not whole or kept != records:
            text = ''.join(f'{key} {_shape_text(shape)} {checksum}\n' for key, (shape, checksum) in kept.items())
            self._journal.seek(0)
            self._journal.truncate()
            self._journal.write(text)
            self._journal.flush()
        self._journal.seek(0, os.SEEK_END)
        return kept


def _parse_checksums(text: str) -> tuple[dict[str, Record], bool]:
    """The records of a checksum file, and whether it is whole (a kill can cut its last line)."""
    records: dict[str, Record] = {}
    position = 0
    while (match := _CHECKSUM_LINE.match(text, position)) is not None:
        records[match[1]] = ((int(match[2]), int(match[3]), int(match[4])), match[5])
        position = match.end()
    return records, position == len(text)


def _open_alone(file: Path, store: Path) -> IO[str]:
    """Open the journal for this process alone: the system drops the lock when the process ends, however it ends."""
    journal = open(file, 'a+', newline='\n')  # noqa: SIM115 (it lives as long as the writer)
    if sys.platform == 'win32':
        return journal  # there, the rename at the end fails while another process has the files open
    import fcntl

    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        journal.close()
        raise RequestError(f'{store}: another process is writing it; wait for it, or stop it') from error
    return journal


def _write_atomically(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + '.new')
    with temporary.open('w', newline='\n') as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)


def _shape_text(shape: tuple[int, int, int]) -> str:
    return f'({shape[0]},{shape[1]},{shape[2]})'


def _origin_text(origin: dict[str, str]) -> str:
    return f'codec {origin.get("codec")} from {origin.get("origin") or "no named source"}'
