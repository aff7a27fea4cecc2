"""Opens one LMDB environment per store and process, shared by all readers."""

from __future__ import annotations

import difflib
import itertools
import os
import threading
from pathlib import Path

import lmdb

from pdan_plugin.errors import RequestError

_open_environments: dict[tuple[int, str, int], lmdb.Environment] = {}
_opening = threading.Lock()
_NEIGHBOURS = 200


def shared_environment(path: str | Path) -> lmdb.Environment:
    """The process's read-only environment of an LMDB store, opened at the first call.

    lmdb cannot open a store twice in a process, and an environment must not be used after a fork. The key is (process,
    real path, inode), so a forked worker and a replaced store each get their own environment. A forked worker's first
    call closes the environment it inherited, only in the worker. No lock file is used; a store must not be written
    while it is read.

    Raises:
        RequestError: There is no LMDB store at the path, or it cannot be opened.
    """
    folder = os.path.realpath(path)
    key = (os.getpid(), folder, os.stat(data_file(path)).st_ino)
    with _opening:
        if key not in _open_environments:
            _close(folder, inherited_only=True)
            try:
                _open_environments[key] = lmdb.open(folder, readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise RequestError(f'{path}: cannot open the LMDB store ({error})') from error
        return _open_environments[key]


def data_file(path: str | Path) -> str:
    """The file that holds a store's values.

    Raises:
        RequestError: There is no LMDB store at the path.
    """
    file = os.path.join(path, 'data.mdb')
    if not os.path.isfile(file):
        raise RequestError(
            f'{path}: no LMDB store here (expected a folder with data.mdb in it). '
            '`basicsr prepare-reds SOURCE TARGET` makes the stores of REDS and of frames laid out like it; '
            'basicsr.utils.lmdb_util.make_lmdb_from_imgs makes any other'
        )
    return file


def close_shared_environment(path: str | Path) -> None:
    """Closes the `shared_environment` of a store in this process, so that the store can be opened for writing."""
    with _opening:
        _close(os.path.realpath(path), inherited_only=False)


def close_keys(environment: lmdb.Environment, key: str) -> str:
    """A hint for a missing key: similar keys among its neighbours in the store's order."""
    with environment.begin(write=False) as transaction:
        cursor = transaction.cursor()
        found = cursor.set_range(key.encode()) or cursor.last()
        if not found:
            return 'the store is empty'
        after = [each.decode() for each in itertools.islice(cursor.iternext(values=False), _NEIGHBOURS)]
        cursor.set_range(after[0].encode())
        before = [each.decode() for each in itertools.islice(cursor.iterprev(values=False), _NEIGHBOURS)]
    neighbours = sorted({*before, *after})
    close = difflib.get_close_matches(key, neighbours, n=3, cutoff=0.5)
    return f'close keys: {", ".join(close)}' if close else f'its keys look like {neighbours[0]!r}'


def _close(folder: str, inherited_only: bool) -> None:
    for key in list(_open_environments):
        if key[1] == folder and not (inherited_only and key[0] == os.getpid()):
            _open_environments.pop(key).close()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


if hasattr(os, 'register_at_fork'):  # another thread may hold the lock at the moment of a fork
    os.register_at_fork(after_in_child=_renew_lock)
