"""A part of REDS, in REDS's own folders and zips, made of scikit-image's photographs; and what a store holds."""

import zipfile
from pathlib import Path

import cv2
import lmdb
from skimage import data

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.synthesis.bicubic import downsample_uint8

SETS = (('sharp', ''), ('blur_bicubic', 'X4'), ('sharp_bicubic', 'X4'))


def make_reds(
    root: Path, *, split: str = 'train', clips: int = 2, frames: int = 12, height: int = 64, width: int = 92
) -> Path:
    """Windows that wander over photographs."""
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    for clip in range(clips):
        for frame in range(frames):
            window = photos[clip % 3][10 + frame % 50 :, 30 + 3 * frame % 100 :][:height, :width]
            sharp = cv2.cvtColor(window, cv2.COLOR_RGB2BGR)
            pictures = (sharp, downsample_uint8(cv2.blur(sharp, (7, 3)), 4), downsample_uint8(sharp, 4))
            for (name, inner), picture in zip(SETS, pictures, strict=True):
                file = root / split / f'{split}_{name}' / inner / f'{clip:03d}' / f'{frame:08d}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), picture)
    return root


def zip_reds(root: Path, target: Path, *, split: str = 'train', compression: int = zipfile.ZIP_STORED) -> Path:
    """The same as the official zips, with the folders the official ones hold."""
    target.mkdir(exist_ok=True)
    for name, _ in SETS:
        with zipfile.ZipFile(target / f'{split}_{name}.zip', 'w', compression) as archive:
            for file in sorted((root / split / f'{split}_{name}').rglob('*')):
                archive.write(file, file.relative_to(root))
    return target


def stored(store: Path) -> dict[str, bytes]:
    """All that two stores must share to be the same: keys and values as they lie there, and both text files."""
    with lmdb.open(str(store), readonly=True, lock=False) as environment, environment.begin() as transaction:
        found = {bytes(key).decode(): bytes(value) for key, value in transaction.cursor()}
    return found | {name: (store / name).read_bytes() for name in ('meta_info.txt', 'checksums.txt')}


def contents(store: Path) -> dict[str, bytes]:
    """The decoded pixels of a store by key."""
    read = FrameStore(store)
    return {key: read.read(key).tobytes() for key in read.keys}
