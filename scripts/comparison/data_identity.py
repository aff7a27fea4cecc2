"""Which pictures a run has seen, and which weights it began with: told by what is in the files, wherever they lie."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.data.frame_store import META_INFO
from pdan_plugin.data.frame_store_writer import CHECKSUMS

PLACES = ('dataroot', 'meta_info_file', 'pretrain_network')  # how the keys begin that name a file or folder


class DataIdentity:
    """Digests of options by what is in the files they name; each place is read once in the object's life."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, options: Iterable[Mapping[str, Any]]) -> str | None:
        """One digest for all that options, such as a data set's, name; None where some of it is not there.

        A store's pictures are told by their checksums, a folder's by their names and sizes; where they lie does not
        matter.
        """
        digest = hashlib.sha256()
        for key, place in _places(list(options)):
            if place not in self._known:
                self._known[place] = _content(Path(place).expanduser())
            content = self._known[place]
            if content is None:
                return None
            digest.update(f'{key} {content}\n'.encode())
        return digest.hexdigest()[:16]


def _places(options: Any, key: str = '') -> Iterator[tuple[str, str]]:
    if isinstance(options, Mapping):
        for name in sorted(options):
            yield from _places(options[name], name)
    elif isinstance(options, list):
        for each in options:
            yield from _places(each, key)
    elif key.startswith(PLACES) and isinstance(options, str):
        yield key, options


def _content(place: Path) -> str | None:
    digest = hashlib.sha256()
    if place.is_file():
        digest.update(place.read_bytes())
    elif (place / CHECKSUMS).is_file():
        digest.update((place / CHECKSUMS).read_bytes())
    elif (place / META_INFO).is_file():  # a store made by the toolbox
        digest.update((place / META_INFO).read_bytes())
        digest.update(str((place / 'data.mdb').stat().st_size).encode())
    elif place.is_dir():
        for folder, folders, files in os.walk(place):
            folders.sort()
            for name in sorted(files):
                path = Path(folder, name)
                digest.update(f'{path.relative_to(place)} {path.stat().st_size}\n'.encode())
    else:
        return None
    return digest.hexdigest()
