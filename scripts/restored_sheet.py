#!/usr/bin/env python
"""Makes the picture of the README: two small JPEG files, bicubic, restored by the weights in the package, ground truth.

    python scripts/restored_sheet.py PHOTOS [--weights pdan_small] [-o docs/restored_sheet.jpg]

PHOTOS is the folder of the photographs that were held back from training; astronaut comes from scikit-image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
from PIL import Image
from skimage import data

from everyday.kinds import Kind, Pixels, small_pictures, store
from pdan_plugin.commands.main import main as basicsr
from pdan_plugin.media.picture_files import read_as_shown

_SHEET = Path(__file__).parents[1] / 'docs' / 'restored_sheet.jpg'
_FRAME = '00000000.png'
_QUALITY = 90
_KINDS = {'astronaut': Kind(12, 4, 75), 'casa-mila': Kind(0, 4, 75)}


def ground_truths(photos: Path) -> dict[str, Pixels]:
    """By name, (h, w, 3) RGB: sides small enough to see the pixels of the small picture."""
    facade = read_as_shown(photos / 'budgie-casa-mila.jpg')
    scale = max(640 / facade.shape[1], 480 / facade.shape[0])
    facade = cv2.resize(facade, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:480, :640]
    return {'astronaut': data.astronaut()[:480, 16:496], 'casa-mila': facade.astype('uint8')}


def main(words: Sequence[str] | None = None) -> int:
    """Writes the picture and returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photos', type=Path, metavar='PHOTOS')
    parser.add_argument('--weights', default='pdan_small', help='a name or a file (default: %(default)s)')
    parser.add_argument(
        '-o', '--output', type=Path, default=_SHEET, metavar='JPG', help='default: docs/restored_sheet.jpg'
    )
    asked = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / 'in').mkdir()
        for number, (clip, truth) in enumerate(ground_truths(asked.photos).items()):
            for part in ('gt', 'lr'):
                (folder / part / clip).mkdir(parents=True)
            Image.fromarray(truth).save(folder / 'gt' / clip / _FRAME)
            small = dict(small_pictures(truth, number))[_KINDS[clip]]
            stored = store(small, _KINDS[clip], clip, folder)
            Image.open(stored).save(folder / 'lr' / clip / _FRAME)
            stored.rename(folder / 'in' / f'{clip}_{Path(_FRAME).stem}.jpg')
        restored = ['restore', str(folder / 'in'), '-o', str(folder / 'out'), '-w', asked.weights]
        places = ['--lr', str(folder / 'lr'), '--gt', str(folder / 'gt'), '--results', f'pdan_small={folder / "out"}']
        sheet = folder / 'sheet.png'
        status = basicsr(restored) or basicsr(['picture-sheet', *places, '--rows', '2', '-o', str(sheet)])
        if not status:
            Image.open(sheet).convert('RGB').save(asked.output, quality=_QUALITY)
    return status


if __name__ == '__main__':
    sys.exit(main())
