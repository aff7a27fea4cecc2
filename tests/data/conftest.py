"""REDS-shaped data made of scikit-image's photographs."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from pdan_plugin.data.frame_store_writer import FrameStoreWriter
from pdan_plugin.synthesis.bicubic import downsample_uint8

HEIGHT, WIDTH = 96, 140  # a BMP row of the small frames (35 * 3 bytes) needs padding


@dataclass
class SmallReds:
    """Two clips of 12 frames as folders (``disk``) and as stores of both codecs, and the pictures they hold."""

    root: Path
    sharp: dict[str, np.ndarray]
    blurred: dict[str, np.ndarray]
    small: dict[str, np.ndarray]

    def options(self, backend: str = 'lmdb', codec: str = 'bmp', *, with_sharp: bool = False, **others: object) -> dict:
        if backend == 'lmdb':
            names = ('sharp.lmdb', 'blur_bicubic_x4.lmdb', 'sharp_bicubic_x4.lmdb')
            roots = [self.root / codec / name for name in names]
        else:
            names = ('train_sharp', 'train_blur_bicubic', 'train_sharp_bicubic/X4')
            roots = [self.root / 'disk' / name for name in names]
        options = {
            'name': 'small',
            'phase': 'train',
            'scale': 4,
            'dataroot_gt': str(roots[0]),
            'dataroot_lq': str(roots[1]),
            'io_backend': {'type': backend},
            'gt_size': 32,
            'use_hflip': True,
            'use_rot': True,
            'manual_seed': 7,
        }
        if with_sharp:
            options['dataroot_lq_sharp'] = str(roots[2])
        return options | others


def write_store(path: Path, frames: dict[str, np.ndarray], codec: str = 'bmp') -> Path:
    with FrameStoreWriter(path, codec=codec) as writer:
        for key, image in frames.items():
            writer.add(key, image)
        writer.finish()
    return path


@pytest.fixture(scope='session')
def small_reds(tmp_path_factory: pytest.TempPathFactory) -> SmallReds:
    root = tmp_path_factory.mktemp('small_reds')
    sharp, blurred = {}, {}
    for clip, photo in (('000', data.astronaut()), ('007', data.coffee())):
        for frame in range(12):
            window = photo[20 + 3 * frame :, 40 + 5 * frame :][:HEIGHT, :WIDTH]
            sharp[f'{clip}/{frame:08d}'] = np.ascontiguousarray(window)
    for key, image in sharp.items():
        blurred[key] = downsample_uint8(cv2.blur(image, (9, 3)), 4)
    small = {key: downsample_uint8(image, 4) for key, image in sharp.items()}
    sets = (('sharp', sharp, ''), ('blur_bicubic', blurred, 'X4'), ('sharp_bicubic', small, 'X4'))
    for name, frames, inner in sets:
        for key, image in frames.items():
            file = root / 'disk' / f'train_{name}' / inner / f'{key}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        suffix = '_x4' if inner else ''
        for codec in ('bmp', 'png'):
            write_store(root / codec / f'{name}{suffix}.lmdb', frames, codec)
    return SmallReds(root, sharp, blurred, small)
