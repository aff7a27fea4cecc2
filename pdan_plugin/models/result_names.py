"""Names the result of an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES


def result_name(lq_path: str, roots: Sequence[str | None]) -> str:
    """The name of an image's result: its path below a root, without the picture suffix, folders joined by '_'.

    For an absolute path below none of the roots, the name is made of its last two parts.

    >>> result_name('/data/X4/000/00000009.png', ['/data/X4'])
    '000_00000009'
    >>> result_name('000/00000009', ['datasets/val_blur_bicubic_x4.lmdb'])  # a key of an LMDB store
    '000_00000009'
    """
    return '_'.join(_parts(lq_path, roots))


def clip_and_frame(lq_path: str, roots: Sequence[str | None]) -> tuple[str, str]:
    """The clip and the frame that `result_name` joins by '_'. Both are empty if the image lies in no folder.

    >>> clip_and_frame('/data/X4/000/00000009.png', ['/data/X4'])
    ('000', '00000009')
    >>> clip_and_frame('/data/Set5/baby.png', ['/data/Set5'])
    ('', '')
    """
    *folders, frame = _parts(lq_path, roots)
    return ('_'.join(folders), frame) if folders else ('', '')


def _parts(lq_path: str, roots: Sequence[str | None]) -> tuple[str, ...]:
    path = PurePath(lq_path)
    root = next((root for root in roots if root is not None and path.is_relative_to(root)), None)
    if root is not None:
        path = path.relative_to(root)
    elif path.is_absolute():
        path = PurePath(*path.parts[-2:])
    if path.suffix.lower() in PICTURE_SUFFIXES:
        path = path.with_suffix('')
    return path.parts
