"""Writes a store of frames; a kill at any moment loses no committed frame and never leaves half a store in place.

An unfinished ``NAME.lmdb`` is called ``NAME.lmdb.partial``. Frames are committed in batches; after each batch their
shapes and checksums are appended to the journal, ``checksums.txt``. Only a finished store, with ``meta_info.txt``, is
renamed.

After a kill between any two of the last steps, the next writer can finish. Their order: commit the frames, write
``meta_info.txt``, close the journal and write ``checksums.txt`` sorted by key, rename the folder, and last remove
``origin.json``, so that a partial store always has the record of its origin.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Generator, Set
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
from pdan_plugin.errors import RequestError, WorkError, refusing_unwritable
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import flush_folder, write_whole
from pdan_plugin.machine.sizes import disk_in_words

CHECKSUMS = 'checksums.txt'
_ORIGIN = 'origin.json'
_DATA = 'data.mdb'
_BATCH_BYTES = 64 << 20
_SMALLEST_MAP = 256 << 20
_PAGE = 4096
_CHECKSUM_LINE = re.compile(r'(\S+) \((\d+),(\d+),(\d+)\) ([0-9a-f]{32})\n')

Record = tuple[tuple[int, int, int], str]  # shape, checksum of the pixels


def bytes_on_disk(value_bytes: int) -> int:
    """Bytes that a value of this size takes in LMDB: whole pages, and its share of the tree."""
    return (value_bytes + 16 + _PAGE - 1) // _PAGE * _PAGE + 128


def partial_path(path: str | Path) -> Path:
    """The path of a store until it is finished."""
    path = Path(path)
    return path.with_name(path.name + '.partial')


def read_checksums(store: str | Path) -> dict[str, Record]:
    """Shape and checksum of each frame of a store by `FrameStoreWriter`, finished or not; empty if there are none."""
    file = Path(store) / CHECKSUMS
    if not file.exists():
        return {}
    return _parse_checksums(_text(file))[0]


class FrameStoreWriter:
    """Writes the store ``path`` (``....lmdb``); use it in a ``with`` statement and call `finish` at the end.

    After an exception or a kill, committed frames stay in the partial store, and the next writer of the same path
    continues it; `done` lists its frames. ``origin`` names the frames' source; a partial store of another origin or
    codec is rejected.

    Raises:
        RequestError: The store already exists, its partial form has another origin or codec, another process is
            writing it, or its file system cannot lock files.
        WorkError: Raised by `add`, `commit` and `finish` if the disk is full or fails. Frames committed before are
            kept, and the next writer continues from there.
    """

    def __init__(self, path: str | Path, *, codec: str = 'bmp', origin: str = '') -> None:
        self.path = Path(path)
        if self.path.suffix != '.lmdb':
            raise RequestError(f'{self.path}: the name of a store must end in .lmdb')
        if codec not in CODECS:
            raise RequestError(f'codec must be one of {", ".join(CODECS)}, got {codec!r}')
        if self.path.exists():
            raise RequestError(f'{self.path}: already exists; remove it to make it again')
        self.codec = codec
        self._folder = partial_path(self.path)
        self._pending: dict[str, bytes] = {}
        self._pending_bytes = 0
        with refusing_unwritable(str(self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_alone(self._folder / _DATA, self.path)
        try:
            with refusing_unwritable(str(self._folder)):
                self._check_still_unfinished()
                self._check_origin({'codec': codec, 'origin': origin})
                self._environment = self._opened()
                try:
                    self._records = self._recover()
                    self._journal: IO[str] = (self._folder / CHECKSUMS).open('a', encoding='utf-8', newline='\n')
                except BaseException:
                    self._environment.close()
                    raise
        except BaseException:
            self._lock.close()
            raise
        self._closed = False

    @property
    def done(self) -> Set[str]:
        """Keys in the store or waiting for the next commit; a live view."""
        return self._records.keys()

    def add(self, key: str, image: np.ndarray) -> None:
        """Store a frame, (h, w, 3) uint8 RGB, under its key ``CLIP/FRAME``."""
        shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))
        self.add_encoded(key, encode_picture(image, self.codec), shape, picture_checksum(image))

    def add_encoded(self, key: str, data: bytes, shape: tuple[int, int, int], checksum: str) -> None:
        """Store an encoded frame (`frame_codec.encode_picture`) with its checksum (`picture_checksum`)."""
        if not key or '.' in key or any(character.isspace() for character in key):
            raise ValueError(
                f'a key must not be empty and must not hold a dot or a space (meta_info.txt cannot list it): {key!r}'
            )
        self._pending[key] = data
        self._records[key] = (shape, checksum)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write everything added so far to disk, safe from a kill.

        Raises:
            WorkError: The disk is full or fails; only frames added since the last commit are lost.
        """
        if not self._pending:
            return
        try:
            with self._reporting_a_full_disk():
                self._put_pending()
                for key in self._pending:
                    shape, checksum = self._records[key]
                    self._journal.write(f'{key} {_shape_text(shape)} {checksum}\n')
                self._journal.flush()
        except BaseException:
            for key in self._pending:
                del self._records[key]
            raise
        finally:  # also after an error, so that close does not try the same again
            self._pending.clear()
            self._pending_bytes = 0

    def finish(self) -> None:
        """Commit, write meta_info.txt, and rename the finished store.

        Raises:
            WorkError: As `commit`; the next writer can finish.
        """
        self.commit()
        level = PNG_COMPRESSION if self.codec == 'png' else 0
        keys = sorted(self._records)
        with self._reporting_a_full_disk():
            meta = ''.join(f'{key}.png {_shape_text(self._records[key][0])} {level}\n' for key in keys)
            write_whole(self._folder / META_INFO, meta, durable=True)
            self._environment.close()
            self._journal.close()
            self._closed = True
            write_whole(self._folder / CHECKSUMS, _journal_text(self._records), durable=True)
            (self._folder / 'lock.mdb').unlink(missing_ok=True)
            flush_folder(self._folder)
            if sys.platform == 'win32':  # Windows does not rename a folder with an open file
                self._lock.close()
            self._folder.rename(self.path)
            (self.path / _ORIGIN).unlink(missing_ok=True)
            flush_folder(self.path.parent)
        self._lock.close()

    def close(self) -> None:
        """Commit and close; the unfinished store stays for the next writer. Does nothing after `finish`."""
        if self._closed:
            self._lock.close()
            return
        try:
            self.commit()
        finally:
            self._closed = True
            self._environment.close()
            with contextlib.suppress(OSError):  # from a full disk; the next writer repairs the journal from the frames
                self._journal.close()
            self._lock.close()

    def __enter__(self) -> FrameStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _reporting_a_full_disk(self) -> Generator[None]:
        try:
            yield
        except (OSError, lmdb.Error) as error:  # LMDB reports a full disk as 'Input/output error'
            free = shutil.disk_usage(self._folder).free
            raise WorkError(
                f'{self.path}: cannot be written on ({error}; {disk_in_words(free)} are free): the disk is full or '
                f'fails. What was committed is kept in {self._folder.name}; make room and run the same command again'
            ) from error

    def _put_pending(self) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, data in self._pending.items():
                        transaction.put(key.encode(), data)
                return
            except lmdb.MapFullError:  # the transaction was rolled back; the whole batch is still pending
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])

    def _check_still_unfinished(self) -> None:
        """Raise an error if another writer finished the store before this one got the lock."""
        if self.path.exists():
            empty = self._folder / _DATA
            if empty.exists() and empty.stat().st_size == 0:  # created just now, when it was opened for the lock
                empty.unlink()
                self._folder.rmdir()
            raise RequestError(f'{self.path}: another process has just finished this store')

    def _opened(self) -> lmdb.Environment:
        size = (self._folder / _DATA).stat().st_size
        try:
            return lmdb.open(str(self._folder), map_size=max(2 * size, _SMALLEST_MAP), readahead=False)
        except lmdb.Error as error:
            raise RequestError(
                f'{self._folder}: this unfinished store cannot be continued ({error}); remove this folder'
            ) from error

    def _check_origin(self, wanted: dict[str, str]) -> None:
        file = self._folder / _ORIGIN
        if not file.exists():
            write_json(file, wanted, indent=None, durable=True)
            return
        found = json.loads(file.read_text(encoding='utf-8'))
        if found != wanted:
            raise RequestError(
                f'{self._folder}: begun with {_origin_text(found)}, now requested with {_origin_text(wanted)}; '
                'use the settings it was begun with, or remove this folder to start again'
            )

    def _recover(self) -> dict[str, Record]:
        """The frames an earlier writer left; the journal is corrected to match the LMDB."""
        file = self._folder / CHECKSUMS
        records, whole = _parse_checksums(_text(file)) if file.exists() else ({}, True)
        with self._environment.begin(buffers=True) as transaction:
            stored = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
            kept = {key: records[key] for key in stored if key in records}
            for key in stored:
                if key not in kept:  # a kill came between the commit and the journal entry
                    try:
                        image = decode_picture(transaction.get(key.encode(), b''))
                    except PictureError as error:
                        raise RequestError(f'{self._folder}: frame {key!r} {error}; remove this folder') from error
                    kept[key] = ((image.shape[0], image.shape[1], 3), picture_checksum(image))
        if not whole or kept != records:
            write_whole(file, _journal_text(kept), durable=True)
        return kept


def _parse_checksums(text: str) -> tuple[dict[str, Record], bool]:
    """The records of a checksum file, and whether it is whole (a kill can cut its last line)."""
    records: dict[str, Record] = {}
    position = 0
    while (match := _CHECKSUM_LINE.match(text, position)) is not None:
        records[match[1]] = ((int(match[2]), int(match[3]), int(match[4])), match[5])
        position = match.end()
    return records, position == len(text)


def _text(file: Path) -> str:
    return file.read_text(encoding='utf-8', errors='replace')  # after a power cut its end may hold anything


def _journal_text(records: dict[str, Record]) -> str:
    return ''.join(f'{key} {_shape_text(records[key][0])} {records[key][1]}\n' for key in sorted(records))


def _lock_alone(file: Path, store: Path) -> IO[bytes]:
    """Lock a file for this process alone; the system releases the lock whenever the process ends.

    The file is LMDB's data file, the only one that stays the same from the first frame to the renamed store.
    """
    lock = open(file, 'ab')  # noqa: SIM115 (it lives as long as the writer)
    if sys.platform == 'win32':
        return lock  # LMDB and the rename at the end fail there while another process has the file open
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise RequestError(f'{store}: another process is writing it; wait for it, or stop it') from error
    except OSError as error:
        lock.close()
        raise RequestError(
            f'{store}: cannot be locked for one writer ({error.strerror}): its file system does not support locks; '
            'choose a TARGET on a local disk'
        ) from error
    return lock


def _shape_text(shape: tuple[int, int, int]) -> str:
    return f'({shape[0]},{shape[1]},{shape[2]})'


def _origin_text(origin: dict[str, str]) -> str:
    return f'codec {origin.get("codec")} from {origin.get("origin") or "no named source"}'
