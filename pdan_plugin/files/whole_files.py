"""Files and folders that appear whole or not at all.

A file is written under a hidden name in the same folder and renamed when it is complete. If anything fails, the old
file is unchanged: an exception removes the unfinished file. An unfinished file of a killed process is reused by the
next writer of the same file, or removed by :func:`remove_left_overs`.

Each writer locks its unfinished file, so several processes may write the same path at the same time: the last one to
finish wins, and every version is whole. On file systems without locks, and on Windows, only one process may write a
path at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != 'win32':
    import fcntl

AnyPath = str | os.PathLike[str]

_MARK = '.partial'
_LONGEST_NAME = 240  # bytes; file systems allow 255
_MOST_WRITERS = 100  # of one file at the same time


def unfinished_path(path: AnyPath, ending: str = '', *, writer: int = 1) -> Path:
    """The path under which ``path`` is written until it is complete.

    Args:
        path: The final path.
        ending: Suffix for writers that choose the format by it.
        writer: 1, or a higher number if other processes write the same file at the same time.
    """
    path = Path(path)
    mark = f'{_MARK}{writer if writer > 1 else ""}{ending}'
    name = f'.{path.name}'
    if len(os.fsencode(name + mark)) > _LONGEST_NAME:
        name = f'.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}'
    return path.with_name(name + mark)


@contextmanager
def opened_whole(path: AnyPath, *, ending: str = '', durable: bool = False) -> Generator[BinaryIO]:
    """Opens a binary file to write, which replaces ``path`` when the block ends without an exception.

    Args:
        path: The final path. Missing folders are created.
        ending: Suffix of the hidden name (the stream's ``name``).
        durable: Whether the file and its name are synced to disk, so that they survive a power cut. Checkpoints and
            records of progress need it; files that can be computed again do not.

    Raises:
        OSError: The file cannot be written; ``filename`` is ``path``, never the hidden name.
    """
    path = Path(path)
    unfinished = unfinished_path(path, ending)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, unfinished = _claimed(path, ending)
        try:
            yield file
            file.flush()
            if durable:
                with open(unfinished, 'rb+') as written:  # a library may have replaced the file
                    os.fsync(written.fileno())
            if sys.platform == 'win32':  # Windows cannot rename an open file
                file.close()
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            with contextlib.suppress(OSError):  # a full disk: closing fails again after the failed flush
                file.close()
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        if str(error.filename) == str(unfinished) or (error.filename is None and error.errno is not None):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def written_whole(path: AnyPath, *, durable: bool = False) -> Generator[Path]:
    """Like :func:`opened_whole`, for libraries that write to a path: yields a path with the suffix of ``path``."""
    path = Path(path)
    with opened_whole(path, ending=path.suffix, durable=durable) as file:
        yield Path(file.name)


def write_whole(path: AnyPath, content: str | bytes, *, durable: bool = False) -> None:
    """Writes a file whole, or leaves the old file unchanged. Text is encoded as UTF-8; line ends are not converted.

    Bytes of a file's name that are not UTF-8 are escaped in text.

    Args and raises: See :func:`opened_whole`.
    """
    with opened_whole(path, durable=durable) as file:
        file.write(content.encode(errors='backslashreplace') if isinstance(content, str) else content)


@contextmanager
def folder_written_whole(path: AnyPath) -> Generator[Path]:
    """Yields an empty folder to fill, which replaces ``path`` when the block ends without an exception.

    An existing folder is removed just before. Only one process at a time may write a folder. The unfinished folder of a
    killed process is removed first.

    Raises:
        OSError: The folder cannot be created.
    """
    path = Path(path)
    unfinished = unfinished_path(path)
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if path.exists():
            shutil.rmtree(path)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def try_writing(path: AnyPath) -> None:
    """Checks early that a file can be written. Creates missing folders, but no file.

    Raises:
        OSError: The file cannot be written; ``filename`` is ``path``.
    """
    with contextlib.suppress(_TriedError), opened_whole(path, ending=Path(path).suffix):
        raise _TriedError


def remove_left_overs(folder: AnyPath) -> None:
    """Removes the unfinished files of killed processes in a folder. Files that are being written are kept."""
    folder = Path(folder)
    for name in os.listdir(folder) if folder.is_dir() else []:
        place = folder / name
        if name[0] == '.' and _MARK in name and place.is_file() and not place.is_symlink():
            with contextlib.suppress(OSError), open(place, 'rb') as file:
                if _locked(file.fileno()) and _is_at(file.fileno(), place):
                    place.unlink()


def flush_folder(folder: AnyPath) -> None:
    """Syncs renames in a folder to disk, to survive a power cut. Windows needs no such call."""
    if sys.platform == 'win32':
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _TriedError(Exception):
    """Ends a trial."""


def _claimed(path: Path, ending: str) -> tuple[BinaryIO, Path]:
    """Opens an empty unfinished file that no other process writes. Returns it and its path."""
    writer = 1
    while True:
        place = unfinished_path(path, ending, writer=writer)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)
        try:
            descriptor = os.open(place, flags, 0o666)
        except OSError:
            if writer == _MOST_WRITERS or not os.path.lexists(place):
                raise
            writer += 1  # it belongs to another user, or is a link or a folder
            continue
        if not _locked(descriptor):
            os.close(descriptor)
            if writer == _MOST_WRITERS:
                raise OSError(f'{path}: {_MOST_WRITERS} processes are writing it already; wait for them')
            writer += 1
        elif not _is_at(descriptor, place):  # its writer renamed or removed it before the lock was taken
            os.close(descriptor)
        else:
            os.ftruncate(descriptor, 0)
            return _stream(descriptor, place), place


def _stream(descriptor: int, place: Path) -> BinaryIO:
    return open(place, 'w+b', opener=lambda _path, _flags: descriptor)  # os.fdopen would set no name


def _locked(descriptor: int) -> bool:
    """Locks the file. False if another process holds the lock; True on systems without locks."""
    if sys.platform == 'win32':
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(descriptor: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except FileNotFoundError:
        return False
