"""Finds the values of an LMDB in its file, so that a part of a value can be read without the rest.

LMDB keeps a value longer than half a page in separate, consecutive pages. The ``lmdb`` package reads every page of such
a value, one at a time. From a store larger than memory that means 675 small reads for a crop of a 720p frame. With the
values' places known, only the crop's rows are requested from the system, all at once.

The format is version 1, used by every LMDB 0.9, in the machine's byte order (``struct MDB_meta``, ``MDB_page`` and
``MDB_node`` of mdb.c).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_PAGE_HEADER = struct.Struct('=QHHHH')  # number, padding, flags, end of the node pointers, begin of the nodes
_META = struct.Struct('=IIQQ48s48sQQ')  # magic, version, address, map size, free pages, main database, last page, txn
_DATABASE = struct.Struct('=IHHQQQQQ')  # page size, flags, depth, branches, leaves, overflow pages, entries, root
_NODE = struct.Struct('=HHHH')  # low and high half of the value's size (of a branch: of the child), flags, key's size
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF = 0x01, 0x02
_IN_OWN_PAGES = 0x01
_NO_PAGE = 2**64 - 1
_LEAST_PAGE, _LARGEST_PAGE = 256, 65536

Extent = tuple[int, int]  # offset in the file, bytes


class UnknownLayout(ValueError):
    """The file is not a whole LMDB of the supported format; the message has the fault."""


class MappedValues:
    """The values of the main database of an LMDB file, as views of its memory map.

    The file must not be written while it is open here. Threads and forked processes may share one.

    Args:
        file: The LMDB's ``data.mdb``.

    Raises:
        UnknownLayout: The file has another format, or is damaged or cut off.
        OSError: It cannot be opened.
    """

    def __init__(self, file: str | Path) -> None:
        with open(file, 'rb') as opened:
            size = os.fstat(opened.fileno()).st_size
            if not size:
                raise UnknownLayout('is empty')
            self._map = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_READ)
        if hasattr(mmap, 'MADV_RANDOM'):  # no read-ahead: `expect` requests what is needed
            self._map.madvise(mmap.MADV_RANDOM)
        self._view = memoryview(self._map)
        try:
            self._extents = dict(_extents(self._view))
        except (struct.error, OverflowError) as error:
            raise UnknownLayout(f'is damaged or cut off ({size} bytes)') from error

    def __len__(self) -> int:
        return len(self._extents)

    def __contains__(self, key: str) -> bool:
        return key in self._extents

    def __getitem__(self, key: str) -> memoryview:
        """A view of the value; no byte is read yet. Raises KeyError if there is no such key."""
        offset, size = self._extents[key]
        return self._view[offset : offset + size]

    def expect(self, key: str, start: int, stop: int) -> None:
        """Announce a read of bytes ``start`` to ``stop`` of a value, so that the system starts to load them."""
        if not hasattr(mmap, 'MADV_WILLNEED'):  # Windows: reading works too, one page at a time
            return
        offset, size = self._extents[key]
        start, stop = max(0, start), min(stop, size)
        if start >= stop:
            return
        first = (offset + start) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, first, offset + stop - first)


def _extents(file: memoryview) -> Iterator[tuple[str, Extent]]:
    """Yields each key, as text, with the place of its value, in the order of the keys."""
    page_size, root, entries = _newest_meta(file)
    found = pages = 0
    waiting = [] if root == _NO_PAGE else [root]
    while waiting:
        page = waiting.pop() * page_size
        pages += 1
        _, _, flags, lower, _ = _PAGE_HEADER.unpack_from(file, page)
        nodes = struct.unpack_from(f'={(lower - _PAGE_HEADER.size) // 2}H', file, page + _PAGE_HEADER.size)
        if flags & _BRANCH:
            waiting += [_child(file, page + node) for node in reversed(nodes)]
        elif flags & _LEAF:
            for node in nodes:
                found += 1
                yield _entry(file, page + node, page_size)
        else:
            raise UnknownLayout(f'page {page // page_size} is of an unknown kind (flags {flags:#x})')
        if found > entries or pages > len(file) // page_size:  # a damaged page may point back at itself
            break
    if found != entries:
        raise UnknownLayout(f'has {entries} entries by its own count, but {found} were found')


def _newest_meta(file: memoryview) -> tuple[int, int, int]:
    """(page size, root page, entries) after the last transaction; the two meta pages are written alternately."""
    newest = (-1, 0, 0, 0)
    page_size = 0
    for number in range(2):
        magic, version, _, _, free, main, _, transaction = _META.unpack_from(
            file, number * page_size + _PAGE_HEADER.size
        )
        if (magic, version) != (_MAGIC, _VERSION):
            raise UnknownLayout('is not an LMDB file of format version 1')
        page_size = _DATABASE.unpack(free)[0]
        if not _LEAST_PAGE <= page_size <= _LARGEST_PAGE:
            raise UnknownLayout(f'has pages of {page_size} bytes')
        *_, entries, root = _DATABASE.unpack(main)
        newest = max(newest, (transaction, page_size, root, entries))
    return newest[1:]


def _child(file: memoryview, node: int) -> int:
    low, middle, high, _ = _NODE.unpack_from(file, node)
    return low | middle << 16 | high << 32


def _entry(file: memoryview, node: int, page_size: int) -> tuple[str, Extent]:
    low, high, flags, key_size = _NODE.unpack_from(file, node)
    size = low | high << 16
    begin = node + _NODE.size
    key = bytes(file[begin : begin + key_size]).decode(errors='replace')
    offset = begin + key_size
    if flags & ~_IN_OWN_PAGES:
        raise UnknownLayout(f'holds more than plain values (entry {key!r}, flags {flags:#x})')
    if flags:
        (first_page,) = struct.unpack_from('=Q', file, offset)
        offset = first_page * page_size + _PAGE_HEADER.size
    if offset + size > len(file):
        raise UnknownLayout(f'is cut off: {len(file)} bytes, and entry {key!r} ends at {offset + size}')
    return key, (offset, size)
