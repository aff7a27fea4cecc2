"""The files below a folder, as all commands that search folders find them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pdan_plugin.errors import RequestError

# folders in which systems keep thumbnails and leftovers beside pictures
STRAY_FOLDERS = frozenset(('@eaDir', '__MACOSX', '$RECYCLE.BIN', 'System Volume Information'))


def files_below(folder: Path, *, without: Path | None = None, links: list[Path] | None = None) -> Iterator[Path]:
    """The files in a folder and its subfolders, sorted by name within each, without hidden and stray ones.

    Args:
        folder: Where to search.
        without: A folder that is left out.
        links: Receives the links to folders, which are then not followed. None: they are followed.

    Raises:
        RequestError: A folder cannot be read, or a link that is followed leads to a folder that it lies in.
    """
    unreadable: list[OSError] = []
    left_out = None if without is None else without.resolve()
    for parent, folders, names in os.walk(folder, onerror=unreadable.append, followlinks=links is None):
        if unreadable:
            break
        here = Path(parent)
        folders[:] = sorted(name for name in folders if name[0] != '.' and name not in STRAY_FOLDERS)
        if left_out is not None:
            folders[:] = [name for name in folders if (here / name).resolve() != left_out]
        linked = [here / name for name in folders if (here / name).is_symlink()]
        if links is not None:
            links += linked
        elif linked:
            above = [place.resolve() for place in (here, *here.parents[: len(here.relative_to(folder).parts)])]
            for link in linked:
                if any(place.is_relative_to(link.resolve()) for place in above):
                    raise RequestError(f'{link}: this link leads to a folder that it lies in; remove it')
        yield from (here / name for name in sorted(names) if name[0] != '.')
    if unreadable:
        raise RequestError(f'{unreadable[0].filename}: this folder cannot be read: {unreadable[0].strerror}')
