"""Blurs photographs step by step and prints which auto-focus functions rank the steps correctly.

    python scripts/rank_sharpness.py skimage
    python scripts/rank_sharpness.py PICTURE_OR_FOLDER... [--longest 640]

Each picture is blurred by Gaussians and by horizontal and vertical motion. A function is right if its value falls at
every step. Each series in which it rises is listed, with the step and the rise.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pdan_plugin.commands.argument_types import whole_number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import PictureFileError, read_as_shown
from pdan_plugin.metrics.blur_ranking import MOTIONS, SIGMAS, rank_blur, ranking_table
from pdan_plugin.synthesis import photographs


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'pictures',
        nargs='+',
        metavar='PICTURE',
        help='pictures, folders of them, or the word skimage for the photographs that scikit-image ships',
    )
    parser.add_argument(
        '--longest',
        type=whole_number(1),
        default=640,
        metavar='PIXELS',
        help='first reduce pictures to this longer side, because photographs are often softer than frames (default: '
        '%(default)s)',
    )
    return parser


def find_photographs(words: Sequence[str]) -> list[Path]:
    """Files, the photographs of folders, and scikit-image's."""
    paths: list[Path] = []
    for word in words:
        if word == 'skimage':
            train, validation = photographs.skimage_photographs()
            paths += [photograph.path for photograph in train + validation]
        elif Path(word).is_file():
            paths.append(Path(word))
        else:
            paths += [photograph.path for photograph in photographs.photographs_in(Path(word), read_as_shown)]
    return list(dict.fromkeys(paths))


def read_reduced(path: Path, longest: int) -> NDArray[np.uint8]:
    """(h, w, 3) RGB, its longer side at most ``longest`` pixels."""
    try:
        picture = read_as_shown(path)
    except (OSError, PictureFileError) as error:
        raise RequestError(f'{path} cannot be read as a picture: {error}') from error
    ratio = longest / max(picture.shape)
    if ratio < 1:
        reduced = cv2.resize(picture, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
        picture = reduced.astype(np.uint8, copy=False)
    return picture


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    rankings = rank_blur({str(path): read_reduced(path, args.longest) for path in find_photographs(args.pictures)})
    print(ranking_table(rankings))
    print(
        f'Gaussian: sigma {", ".join(f"{sigma:g}" for sigma in SIGMAS)}; motion: {", ".join(map(str, MOTIONS))} pixels'
    )


if __name__ == '__main__':
    sys.exit(main())
