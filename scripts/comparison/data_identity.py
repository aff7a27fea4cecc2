"""Identifies the pictures and initial weights of a run by the content of their files, independent of their place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.data.frame_store import META_INFO
from pdan_plugin.data.frame_store_writer import CHECKSUMS
from pdan_plugin.files.digests import digest_of, file_digest

PLACES = ('dataroot', 'meta_info_file', 'pretrain_network')  # prefixes of the keys that name a file or folder


class DataIdentity:
    """Digests of options by the content of the files they name; each file or folder is read once."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, options: Iterable[Mapping[str, Any]]) -> str | None:
        """One digest for all files that options, such as a data set's, name; None if one is missing.

        Pictures in a store are identified by their checksums, those in a folder by names and sizes. Their place does
        not matter.
        """
        found = []
        for key, place in _places(list(options)):
            if place not in self._known:
                self._known[place] = _content(Path(place).expanduser())
            content = self._known[place]
            if content is None:
                return None
            found.append(f'{key} {content}\n'.encode())
        return digest_of(*found)[:16]


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
    if place.is_file():
        return file_digest(place)
    if (place / CHECKSUMS).is_file():
        return file_digest(place / CHECKSUMS)
    if (place / META_INFO).is_file():  # a store made by the toolbox
        return digest_of((place / META_INFO).read_bytes(), str((place / 'data.mdb').stat().st_size).encode())
    if not place.is_dir():
        return None
    files = []
    for folder, folders, names in os.walk(place):
        folders.sort()
        files += [Path(folder, name) for name in sorted(names)]
    return digest_of(*(f'{path.relative_to(place)} {path.stat().st_size}\n'.encode() for path in files))
