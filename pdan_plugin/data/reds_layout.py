"""REDS as its authors publish it: names of folders and zips, numbers of frames, and where they lie under a folder.

A frame's key is ``CLIP/FRAME`` (``000/00000009``), in stores, samples and messages alike.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pdan_plugin.errors import RequestError

SCALE = 4
FRAME_SHAPE = (720, 1280, 3)
FRAMES_PER_CLIP = 100
CLIPS = {'train': 240, 'val': 30}
SPLITS = ('train', 'val', 'val300')

_SEARCH_DEPTH = 3  # SOURCE/REDS/train/train_sharp is the deepest place looked at
_CLIP = re.compile(r'\d{3,}')


@dataclass(frozen=True)
class Kind:
    """One of the three pictures of a frame: its folder under a split, and the folder REDS keeps small frames in."""

    folder: str
    store_suffix: str
    inner: str = ''


SHARP = Kind('sharp', 'sharp')
BLUR_BICUBIC = Kind('blur_bicubic', 'blur_bicubic_x4', 'X4')
SHARP_BICUBIC = Kind('sharp_bicubic', 'sharp_bicubic_x4', 'X4')
KINDS = (SHARP, BLUR_BICUBIC, SHARP_BICUBIC)


@dataclass(frozen=True)
class Place:
    """Where one kind of one split lies: a folder of clips, or a zip read in place."""

    path: Path

    @property
    def is_archive(self) -> bool:
        return self.path.suffix == '.zip'


def published_split(split: str) -> str:
    """The split whose files hold this one: val300 is a choice of val's frames."""
    return 'val' if split == 'val300' else split


def set_name(split: str, kind: Kind) -> str:
    """REDS's own name of a set, of its folder and of its zip: ``train_sharp``."""
    return f'{published_split(split)}_{kind.folder}'


def store_name(split: str, kind: Kind, *, sub_images: bool = False) -> str:
    """The store prepared from a set: ``train_sharp.lmdb``, ``val300_blur_bicubic_x4.lmdb``; cut, ``..._sub.lmdb``."""
    return f'{split}_{kind.store_suffix}{"_sub" if sub_images else ""}.lmdb'


def is_val300(key: str) -> bool:
    """Whether a frame, or a sub-image of it, is among those the challenge scores: frames 9, 19, ..., 99 of a clip."""
    frame = key.rpartition('/')[2].partition('_s')[0]
    return frame.isdecimal() and int(frame) % 10 == 9


def frames_per_clip(split: str) -> int:
    """How many frames each clip of the published split has."""
    return FRAMES_PER_CLIP // 10 if split == 'val300' else FRAMES_PER_CLIP


def frames_published(split: str) -> int:
    """How many frames the whole split has."""
    return CLIPS[published_split(split)] * frames_per_clip(split)


def key_of_member(member: str, name: str) -> str | None:
    """The key of a zip's member if it is a frame of the set called ``name``, whatever folders the zip wraps it in."""
    parts = member.split('/')
    stem, extension = os.path.splitext(parts[-1])
    if len(parts) < 2 or extension.lower() != '.png' or not stem.isdecimal() or not _CLIP.fullmatch(parts[-2]):
        return None
    above = [part for part in parts[:-2] if part not in ('X4', '.')]
    if above and above[-1] != name:
        return None
    return f'{parts[-2]}/{stem}'


def find_set(source: str | Path, split: str, kind: Kind, *, from_zip: bool = False) -> Place | None:
    """Where a set lies under SOURCE, or None.

    SOURCE may be the folder that holds ``train/`` and ``val/``, one of these, or one above; zips may lie at any of
    these levels. An unpacked folder goes before its zip, unless ``from_zip`` lets only zips count; a shallower place
    goes before a deeper one. Folders under SOURCE that cannot be listed, such as lost+found, are passed over.

    Raises:
        RequestError: SOURCE is no folder or cannot be listed, or the set lies in two places of the same depth.
    """
    source = Path(source)
    if not os.path.isdir(source):
        raise RequestError(f"{source}: no such folder (expected the folder with REDS's train/ and val/ or its zips)")
    try:
        next(source.iterdir(), None)
    except OSError as error:
        raise RequestError(f'{source}: cannot be listed ({error.strerror}); allow reading it') from error
    name = set_name(split, kind)
    for folders in () if from_zip else _levels(source):
        unpacked = [found for folder in folders if (found := _folder_of_clips(folder, name, kind)) is not None]
        if unpacked:
            return Place(_only(unpacked, name))
    for folders in _levels(source):
        archives = [folder / f'{name}.zip' for folder in folders if os.path.isfile(folder / f'{name}.zip')]
        if archives:
            return Place(_only(archives, name))
    return None


def _levels(source: Path) -> Iterable[list[Path]]:
    """SOURCE, then its folders, then theirs: breadth first, without going into folders of frames."""
    level = [source]
    for _ in range(_SEARCH_DEPTH):
        yield level
        level = [
            child
            for folder in level
            for child in _folders_in(folder)
            if not _CLIP.fullmatch(child.name) and child.suffix not in ('.lmdb', '.partial')
        ]


def _folders_in(folder: Path) -> list[Path]:
    """Sorted; empty for a folder that is not there or cannot be listed.

    ``os.path`` asks, since ``Path.is_dir`` raises where a folder may not be looked into.
    """
    try:
        return sorted(child for child in folder.iterdir() if os.path.isdir(child))
    except OSError:
        return []


def _folder_of_clips(parent: Path, name: str, kind: Kind) -> Path | None:
    """PARENT/NAME, or its X4, if clips lie in it; SOURCE may itself be that folder."""
    named = [parent / name] if parent.name != name else [parent, parent / name]
    for folder in named:
        for candidate in (folder / kind.inner, folder) if kind.inner else (folder,):
            if any(_CLIP.fullmatch(child.name) for child in _folders_in(candidate)):
                return candidate
    return None


def _only(found: list[Path], name: str) -> Path:
    if len(set(found)) > 1:
        places = ', '.join(str(path) for path in found)
        raise RequestError(f'{name} lies in {len(found)} places: {places}. Give the folder that holds the one to use')
    return found[0]
