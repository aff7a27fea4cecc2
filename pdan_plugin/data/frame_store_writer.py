"""Writing a store of frames so that a kill at any moment loses nothing and never leaves half a store in place.

While it is written, ``NAME.lmdb`` lies beside its final place as ``NAME.lmdb.partial``. Frames are committed in
batches; after each, their shapes and checksums are appended to ``checksums.txt``. Only a finished store, with its
``meta_info.txt``, is renamed.

The order at the end, so that a kill between any two steps leaves what the next writer finishes: frames committed,
``meta_info.txt`` put in place, the journal closed and ``checksums.txt`` put in place sorted by key, the folder renamed,
and only then ``origin.json`` removed: a partial store always knows what it was begun from.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Set
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

CHECKSUMS = 'checksums.txt'
_ORIGIN = 'origin.json'
_DATA = 'data.mdb'
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
    return _parse_checksums(_text(file))[0]


class FrameStoreWriter:
    """Writes the store ``path`` (``....lmdb``); use it in a ``with`` statement and call `finish` at the end.

    Left without `finish`, by an exception or a kill, everything committed stays in the partial store and the next
    writer of the same path goes on from there: `done` says which frames it has. ``origin`` names where the frames come
    from; a partial store of another origin or codec is not continued.

    Raises:
        RequestError: The store is there already, its partial form belongs to another origin or codec, another
            process is writing it, or its file system cannot lock files.
        WorkError: Adding, committing and finishing raise it where the disk is full or fails. What was committed before
            is kept, and the next writer goes on from there.
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
        """Keys that are safely in the store or waiting for the next commit: a view that follows what is added."""
        return self._records.keys()

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
        self._pending[key] = data
        self._records[key] = (shape, checksum)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _BATCH_BYTES:
            self.commit()

    def commit(self) -> None:
        """Make everything added so far safe.

        Raises:
            WorkError: The disk is full or fails; what was added since the last commit is lost, what was before is not.
        """
        if not self._pending:
            return
        try:
            with self._telling_a_full_disk():
                self._put_pending()
                for key in self._pending:
                    shape, checksum = self._records[key]
                    self._journal.write(f'{key} {_shape_text(shape)} {checksum}\n')
                self._journal.flush()
        except BaseException:
            for key in self._pending:
                del self._records[key]
            raise
        finally:  # also after an error: closing must not try the same again
            self._pending.clear()
            self._pending_bytes = 0

    def finish(self) -> None:
        """Commit, write meta_info.txt, and put the store in its place.

        Raises:
            WorkError: As `commit`; the next writer can finish.
        """
        self.commit()
        level = PNG_COMPRESSION if self.codec == 'png' else 0
        keys = sorted(self._records)
        with self._telling_a_full_disk():
            meta = ''.join(f'{key}.png {_shape_text(self._records[key][0])} {level}\n' for key in keys)
            write_whole(self._folder / META_INFO, meta, durable=True)
            self._environment.close()
            self._journal.close()
            self._closed = True
            write_whole(self._folder / CHECKSUMS, _journal_text(self._records), durable=True)
            (self._folder / 'lock.mdb').unlink(missing_ok=True)
            flush_folder(self._folder)
            if sys.platform == 'win32':  # which does not rename a folder of which a file is open
                self._lock.close()
            self._folder.rename(self.path)
            (self.path / _ORIGIN).unlink(missing_ok=True)
            flush_folder(self.path.parent)
        self._lock.close()

    def close(self) -> None:
        """Commit and stop, leaving an unfinished store for the next writer; after `finish`, nothing."""
        if self._closed:
            self._lock.close()
            return
        try:
            self.commit()
        finally:
            self._closed = True
            self._environment.close()
            with contextlib.suppress(OSError):  # of a full disk; the journal is made whole from the frames
                self._journal.close()
            self._lock.close()

    def __enter__(self) -> FrameStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _telling_a_full_disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, lmdb.Error) as error:  # of a full disk LMDB says no more than 'Input/output error'
            free = shutil.disk_usage(self._folder).free
            raise WorkError(
                f'{self.path}: cannot be written on ({error}; {free / 1e6:.0f} MB are free): the disk is full or '
                f'fails. What was committed is kept in {self._folder.name}; make room and run the same command again'
            ) from error

    def _put_pending(self) -> None:
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, data in self._pending.items():
                        transaction.put(key.encode(), data)
                return
            except lmdb.MapFullError:  # the transaction was undone; the whole batch is still here
                self._environment.set_mapsize(2 * self._environment.info()['map_size'])

    def _check_still_unfinished(self) -> None:
        """Another writer may have finished between the look at the store's place and the lock."""
        if self.path.exists():
            empty = self._folder / _DATA
            if empty.exists() and empty.stat().st_size == 0:  # made a moment ago, by opening it to lock it
                empty.unlink()
                self._folder.rmdir()
            raise RequestError(f'{self.path}: another process has just finished it')

    def _opened(self) -> lmdb.Environment:
        size = (self._folder / _DATA).stat().st_size
        try:
            return lmdb.open(str(self._folder), map_size=max(2 * size, _SMALLEST_MAP), readahead=False)
        except lmdb.Error as error:
            raise RequestError(
                f'{self._folder}: what was begun here cannot be gone on with ({error}); remove this folder'
            ) from error

    def _check_origin(self, wanted: dict[str, str]) -> None:
        file = self._folder / _ORIGIN
        if not file.exists():
            write_json(file, wanted, indent=None, durable=True)
            return
        found = json.loads(file.read_text(encoding='utf-8'))
        if found != wanted:
            raise RequestError(
                f'{self._folder}: begun with {_origin_text(found)}, now asked for {_origin_text(wanted)}; '
                'go on as it was begun, or remove this folder to begin anew'
            )

    def _recover(self) -> dict[str, Record]:
        """What an earlier writer left: journal and LMDB are made to agree, the LMDB being what counts."""
        file = self._folder / CHECKSUMS
        records, whole = _parse_checksums(_text(file)) if file.exists() else ({}, True)
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
    return file.read_text(encoding='utf-8', errors='replace')  # after a power cut there may be anything in its end


def _journal_text(records: dict[str, Record]) -> str:
    return ''.join(f'{key} {_shape_text(records[key][0])} {records[key][1]}\n' for key in sorted(records))


def _lock_alone(file: Path, store: Path) -> IO[bytes]:
    """Keep a file for this process alone: the system drops the lock when the process ends, however it ends.

    It is LMDB's own data file, the one file that stays the same from the first frame to the renamed store.
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
            f'{store}: cannot be kept for one writer alone ({error.strerror}): the file system there does not lock '
            'files; choose another TARGET, on a local disk'
        ) from error
    return lock


def _shape_text(shape: tuple[int, int, int]) -> str:
    return f'({shape[0]},{shape[1]},{shape[2]})'


def _origin_text(origin: dict[str, str]) -> str:
    return f'codec {origin.get("codec")} from {origin.get("origin") or "no named source"}'
