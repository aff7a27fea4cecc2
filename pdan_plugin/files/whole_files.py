"""Files and folders that appear whole or not at all.

A file is written under a hidden name beside its place and renamed when it is finished. Whatever goes wrong, the place
then holds what it held before: an exception removes the unfinished file, and one that a killed process left is taken
over by the next writer of the same file, or removed by :func:`remove_left_overs`.

Each writer locks its unfinished file, so that several processes may write one place at the same time: the last one to
finish wins, and every version is whole. On file systems that do not lock files, and on Windows, only one process may
write a place at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
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
    """Where ``path`` is written until it is whole.

    Args:
        path: The final place.
        ending: Added at the end, for writers that choose the format by it.
        writer: 1, or a higher number where other processes write the same file at the same time.
    """
    path = Path(path)
    mark = f'{_MARK}{writer if writer > 1 else ""}{ending}'
    name = f'.{path.name}'
    if len(os.fsencode(name + mark)) > _LONGEST_NAME:
        name = f'.{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}'
    return path.with_name(name + mark)


@contextmanager
def opened_whole(path: AnyPath, *, ending: str = '', durable: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes its place when the block ends without an exception.

    Args:
        path: The place. Missing folders are made.
        ending: Of the name under which the file is written, which is the stream's ``name``.
        durable: Whether the file and its name are flushed to the disk, so that they outlast a power cut. Checkpoints
            and records of progress need it; what can be made again does not.

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
                with open(unfinished, 'rb+') as written:  # a library may have put another file there
                    os.fsync(written.fileno())
            if sys.platform == 'win32':  # which renames no open file
                file.close()
            os.replace(unfinished, path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            with contextlib.suppress(OSError):  # of a full disk, after the flush above failed
                file.close()
        if durable:
            flush_folder(path.parent)
    except OSError as error:
        if str(error.filename) == str(unfinished) or (error.filename is None and error.errno is not None):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def written_whole(path: AnyPath, *, durable: bool = False) -> Iterator[Path]:
    """As :func:`opened_whole`, for libraries that write to a path: gives one with the ending of ``path``."""
    path = Path(path)
    with opened_whole(path, ending=path.suffix, durable=durable) as file:
        yield Path(file.name)


def write_whole(path: AnyPath, content: str | bytes, *, durable: bool = False) -> None:
    """Writes a file whole, or leaves what was there; text becomes UTF-8, its line ends stay as they are.

    Args and raises: See :func:`opened_whole`.
    """
    with opened_whole(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def folder_written_whole(path: AnyPath) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of ``path`` when the block ends without an exception.

    A folder that is there is removed just before. One process at a time may write a folder; what a killed one left of
    it is removed first.

    Raises:
        OSError: The folder cannot be made.
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
    """Finds out early whether a file can be written; leaves nothing there but the folders that were missing.

    Raises:
        OSError: It cannot; ``filename`` is ``path``.
    """
    with contextlib.suppress(_TriedError), opened_whole(path, ending=Path(path).suffix):
        raise _TriedError


def remove_left_overs(folder: AnyPath) -> None:
    """Removes the unfinished files that killed processes left in a folder; those being written now stay."""
    folder = Path(folder)
    for name in os.listdir(folder) if folder.is_dir() else []:
        place = folder / name
        if name[0] == '.' and _MARK in name and place.is_file() and not place.is_symlink():
            with contextlib.suppress(OSError), open(place, 'rb') as file:
                if _locked(file.fileno()) and _is_at(file.fileno(), place):
                    place.unlink()


def flush_folder(folder: AnyPath) -> None:
    """Makes renames inside a folder outlast a power cut; Windows, which opens no folders, does it by itself."""
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
    """An empty unfinished file that no other process writes, and where it lies."""
    writer = 1
    while True:
        place = unfinished_path(path, ending, writer=writer)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_BINARY', 0)
        try:
            descriptor = os.open(place, flags, 0o666)
        except OSError:
            if writer == _MOST_WRITERS or not os.path.lexists(place):
                raise
            writer += 1  # another user's, or a link or folder
            continue
        if not _locked(descriptor):
            os.close(descriptor)
            if writer == _MOST_WRITERS:
                raise OSError(f'{path}: {_MOST_WRITERS} processes are writing it already; wait for them')
            writer += 1
        elif not _is_at(descriptor, place):  # its writer renamed or removed it before this lock
            os.close(descriptor)
        else:
            os.ftruncate(descriptor, 0)
            return _stream(descriptor, place), place


def _stream(descriptor: int, place: Path) -> BinaryIO:
    return open(place, 'w+b', opener=lambda *_: descriptor)  # has a name, which os.fdopen's has not


def _locked(descriptor: int) -> bool:
    """Whether the file is this opening's own from now on; also where files cannot be locked."""
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
