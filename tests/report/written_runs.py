"""Test runs as `basicsr test` leaves them, small, on a real data set of real pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from basicsr.metrics import calculate_psnr

from pdan_plugin.synthesis.bicubic import downsample_uint8

SIZE = 96, 128
CLIPS = {'000': 'astronaut', '001': 'coffee'}
FRAMES = range(3)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def make_data(root: Path) -> dict[str, np.ndarray]:
    """REDS's folders under root/gt and root/lr; the ground truth by the images' names."""
    truth = {}
    for clip, name in CLIPS.items():
        photo = getattr(skimage.data, name)()
        for frame in FRAMES:
            top, left = 40 + 12 * frame, 120 + 8 * frame
            gt = np.ascontiguousarray(photo[top : top + SIZE[0], left : left + SIZE[1]])
            write(root / 'gt' / clip / f'{frame:08d}.png', gt)
            write(root / 'lr' / clip / f'{frame:08d}.png', downsample_uint8(gt, 4))
            truth[f'{clip}_{frame:08d}'] = gt
    return truth


def make_run(
    root: Path,
    folder: str,
    truth: dict[str, np.ndarray],
    *,
    blur: float,
    name: str | None = None,
    save_img: bool = True,
    weights: str | None = None,
) -> Path:
    """results/FOLDER: the truth, blurred, with its real scores; the blur grows with each image."""
    run = root / 'results' / folder
    run.mkdir(parents=True)
    rows = []
    for number, (image, gt) in enumerate(truth.items()):
        result = cv2.GaussianBlur(gt, (0, 0), blur + 0.2 * number)
        if save_img:
            write(run / 'visualization' / 'val' / f'{image}.png', result)
        psnr = calculate_psnr(result, gt, crop_border=0)
        rows.append([image, *image.split('_'), psnr, 1 / psnr, 0.01 * (number + 1)])
    with (run / 'val.csv').open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([['image', 'clip', 'frame', 'psnr', 'distance', 'seconds'], *rows])
    values = np.array([row[3:] for row in rows])
    options = {
        'name': 'val',
        'type': 'REDSPairedDataset',
        'phase': 'val',
        'scale': 4,
        'dataroot_gt': str(root / 'gt'),
        'dataroot_lq': str(root / 'lr'),
        'io_backend': {'type': 'disk'},
    }
    psnr = {'type': 'calculate_psnr', 'crop_border': 0, 'better': 'higher', 'mean': values[:, 0].mean()}
    record = {
        'name': name or folder,
        'date': '2026-11-23T02:00:00',
        'weights': weights,
        'network': {'type': 'PDAN', 'num_feat': 32},
        'parameters': 1234567,
        'machine': 'a machine, 2 cores',
        'precision': 'bf16',
        'self_ensemble': False,
        'tile': None,
        'datasets': {
            'val': {
                'options': options,
                'csv': 'val.csv',
                'pictures': 'visualization/val' if save_img else None,
                'suffix': None,
                'metrics': {'psnr': psnr, 'distance': {'better': 'lower', 'mean': values[:, 1].mean()}},
                'images': len(rows),
                'seconds_per_image': values[:, 2].mean(),
            }
        },
    }
    (run / 'test.json').write_text(json.dumps(record), encoding='utf-8')
    return run
