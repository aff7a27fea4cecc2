"""The toolbox's file client: shares LMDB stores within a process, and names keys and files in errors."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import lmdb
from basicsr.utils.file_client import FileClient, LmdbBackend

from pdan_plugin.data.lmdb_environments import close_keys, close_shared_environment, shared_environment
from pdan_plugin.data.sourced_bytes import SourcedBytes
from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


class MissingKeyError(RequestError, KeyError):
    """A store has no such key."""

    __str__ = Exception.__str__  # KeyError's own shows the message in quotes


@fix(
    where='utils/file_client.py:112',
    upstream='none',
    symptom="lmdb: 'The environment is already open in this process' when train and val read the same store",
    behaves=lambda: _opens_a_store_once(),
)
def lmdb_stores_are_shared() -> None:
    """All backends of a process read a store through one environment. A forked or unpickled backend opens a new one.

    The probe counts how often two backends open the same store.
    """

    def __init__(
        self: Any,
        db_paths: str | list[str],
        client_keys: str | list[str] = 'default',
        readonly: bool = True,
        lock: bool = False,
        readahead: bool = False,
        **kwargs: Any,
    ) -> None:
        asked = {'readonly': readonly, 'lock': lock, 'readahead': readahead, **kwargs}
        refused = {name: value for name, value in asked.items() if (name, value) not in _SHARED_SETTINGS}
        if refused:
            raise RequestError(
                f'io_backend: {refused}: stores are always read with {dict(_SHARED_SETTINGS)}; remove the setting'
            )
        names = [client_keys] if isinstance(client_keys, str) else list(client_keys)
        self.db_paths = [str(path) for path in (db_paths if isinstance(db_paths, list) else [db_paths])]
        if len(names) != len(self.db_paths):
            raise ValueError(f'client_keys and db_paths must have the same length, got {names} and {self.db_paths}')
        self._paths = dict(zip(names, self.db_paths, strict=True))
        self._client, self._process = {}, os.getpid()
        for name in names:
            _environment(self, name)

    def get(self: Any, filepath: Any, client_key: str) -> bytes:
        environment = _environment(self, client_key)
        with environment.begin(write=False) as transaction:
            content = transaction.get(str(filepath).encode())
        if content is None:
            raise MissingKeyError(
                f'{self._paths[client_key]}: the store has no key {str(filepath)!r}; '
                f'{close_keys(environment, str(filepath))}. Create the store again, or correct its meta_info.txt'
            )
        return content

    def __getstate__(self: LmdbBackend) -> dict[str, Any]:
        return {**vars(self), '_client': {}}

    for method in (__init__, get, __getstate__):
        replace(LmdbBackend, method.__name__, method)


@probe
def _opens_a_store_once() -> bool:
    """Opens two backends on a store that does not exist; replaced os.stat and lmdb.open pretend that it does."""
    path, opened = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'probe.lmdb'), []
    real_stat = os.stat

    def stat(asked: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        pretended = isinstance(asked, str) and asked.startswith(path)
        return real_stat(__file__ if pretended else asked, *args, **kwargs)

    def open_store(asked: str, *args: Any, **kwargs: Any) -> Any:
        opened.append(asked)
        return SimpleNamespace(close=lambda: None)

    with swapped(os, stat=stat), swapped(lmdb, open=open_store):
        for _ in range(2):
            LmdbBackend([path])
    close_shared_environment(path)
    return len(opened) == 1


_SHARED_SETTINGS = (('readonly', True), ('lock', False), ('readahead', False))


def _environment(backend: Any, name: str) -> lmdb.Environment:
    if name not in backend._paths:
        raise ValueError(f'client_key {name!r} is not one of {list(backend._paths)}')
    if backend._process != os.getpid():
        backend._client, backend._process = {}, os.getpid()
    if name not in backend._client:
        backend._client[name] = shared_environment(backend._paths[name])
    return backend._client[name]


@fix(
    where='utils/file_client.py:158',
    upstream='#254',
    symptom='the error for a broken image names no file or key',
    behaves=lambda: _bytes_have_a_source(),
)
def bytes_know_their_source() -> None:
    """`FileClient.get` returns bytes with a `.source`; `imfrombytes` names it in its errors."""
    published = FileClient.get

    def get(self: Any, filepath: Any, client_key: str = 'default') -> Any:
        content = published(self, filepath, client_key)
        if not isinstance(content, bytes):  # memcached returns its own buffer
            return content
        store = f' in {self.client._paths[client_key]}' if self.backend == 'lmdb' else ''
        return SourcedBytes(content, f'key {filepath}{store}' if store else str(filepath))

    replace(FileClient, 'get', get)


@probe
def _bytes_have_a_source() -> bool:
    client = FileClient()
    client.client = SimpleNamespace(get=lambda path: b'content')
    return 'probe.png' in str(getattr(client.get('probe.png'), 'source', ''))
