"""The layout of REDS as published: names of folders and zips, numbers of frames, and how to find them under a folder.

A frame's key is ``CLIP/FRAME`` (``000/00000009``) in stores, samples and messages.
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

_SEARCH_DEPTH = 3  # SOURCE/REDS/train/train_sharp is the deepest place searched
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
    """The place of one kind of one split: a folder of clips, or a zip read without unpacking."""

    path: Path

    @property
    def is_archive(self) -> bool:
        return self.path.suffix == '.zip'


def published_split(split: str) -> str:
    """The published split that holds this one: val300 is a selection of val's frames."""
    return 'val' if split == 'val300' else split


def set_name(split: str, kind: Kind) -> str:
    """REDS's name of a set, its folder and its zip: ``train_sharp``."""
    return f'{published_split(split)}_{kind.folder}'


def store_name(split: str, kind: Kind, *, sub_images: bool = False) -> str:
    """The store prepared from a set: ``train_sharp.lmdb``, ``val300_blur_bicubic_x4.lmdb``; cut, ``..._sub.lmdb``."""
    return f'{split}_{kind.store_suffix}{"_sub" if sub_images else ""}.lmdb'


def is_val300(key: str) -> bool:
    """Whether the challenge scores this frame (or the frame of this sub-image): frames 9, 19, ..., 99 of a clip.

    >>> is_val300('003/00000019'), is_val300('003/00000020')
    (True, False)
    """
    frame = key.rpartition('/')[2].partition('_s')[0]
    return frame.isdecimal() and int(frame) % 10 == 9


def frames_per_clip(split: str) -> int:
    """Number of frames in each clip of the published split."""
    return FRAMES_PER_CLIP // 10 if split == 'val300' else FRAMES_PER_CLIP


def frames_published(split: str) -> int:
    """Number of frames in the whole published split."""
    return CLIPS[published_split(split)] * frames_per_clip(split)


def key_of_member(member: str, name: str) -> str | None:
    """The key of a zip's member if it is a frame of the set ``name``, in any folder of the zip; otherwise None.

    >>> key_of_member('train/train_sharp/003/00000019.png', 'train_sharp')
    '003/00000019'
    """
    parts = member.split('/')
    stem, extension = os.path.splitext(parts[-1])
    if len(parts) < 2 or extension.lower() != '.png' or not stem.isdecimal() or not _CLIP.fullmatch(parts[-2]):
        return None
    above = [part for part in parts[:-2] if part not in ('X4', '.')]
    if above and above[-1] != name:
        return None
    return f'{parts[-2]}/{stem}'


def find_set(source: str | Path, split: str, kind: Kind, *, from_zip: bool = False) -> Place | None:
    """The place of a set under SOURCE, or None.

    SOURCE may be the folder that holds ``train/`` and ``val/``, one of these, or the folder above; zips may lie at any
    of these levels. An unpacked folder is preferred to its zip, unless ``from_zip``, and a shallower place to a deeper
    one. Folders that cannot be listed, such as lost+found, are skipped.

    Raises:
        RequestError: SOURCE is not a folder or cannot be listed, or the set is in two places at the same depth.
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
    """Yields SOURCE, then its folders, then their folders, level by level; skips folders of frames."""
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
    """The subfolders, sorted; empty if the folder is missing or cannot be listed.

    It uses ``os.path.isdir`` because ``Path.is_dir`` raises an error for a folder without access.
    """
    try:
        return sorted(child for child in folder.iterdir() if os.path.isdir(child))
    except OSError:
        return []


def _folder_of_clips(parent: Path, name: str, kind: Kind) -> Path | None:
    """PARENT/NAME, or its X4, if it holds clips; PARENT itself may be that folder."""
    named = [parent / name] if parent.name != name else [parent, parent / name]
    for folder in named:
        for candidate in (folder / kind.inner, folder) if kind.inner else (folder,):
            if any(_CLIP.fullmatch(child.name) for child in _folders_in(candidate)):
                return candidate
    return None


def _only(found: list[Path], name: str) -> Path:
    if len(set(found)) > 1:
        places = ', '.join(str(path) for path in found)
        raise RequestError(f'{name} is in {len(found)} places: {places}. Give the folder that holds the one to use')
    return found[0]
