"""A camera's response from an exposure series: see `python scripts/calibrate_response.py --help`."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.report.response_curves import draw_response
from pdan_plugin.synthesis.response_calibration import calibrate_response, exposures_of


def seconds(text: str) -> float:
    """``1/60`` or ``0.0167`` as seconds."""
    above, line, below = text.partition('/')
    try:
        time = float(above) / float(below if line else 1)
    except (ValueError, ZeroDivisionError):
        time = 0.0
    if not 0 < time < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a time in seconds above 0, such as 1/60 or 0.0167')
    return time


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(
            'Find the response of a camera from pictures of one scene. Only the exposure time may differ: camera on a '
            'tripod, motionless scene, fixed aperture, sensitivity and white balance. Take five to nine pictures, each '
            'exposed at most twice as long as the one before, from one without white areas to one without black areas, '
            "in the camera's least compressed format: JPEG losses make the curve wavy. The pictures are not aligned."
        )
    )
    parser.add_argument('pictures', metavar='PICTURES', nargs='+', type=Path, help='8-bit colour pictures of one size')
    parser.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        type=Path,
        required=True,
        help='the table to write, STEM.npy; a plot of it goes to STEM.response.png',
    )
    parser.add_argument(
        '--exposures',
        metavar='SECONDS',
        nargs='+',
        type=seconds,
        help="exposure times in the pictures' order, such as 1/60 1/30 1/15 (default: from their EXIF records)",
    )
    return parser


def read(file: Path) -> np.ndarray:
    """The picture, (h, w, 3) uint8 RGB."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    try:  # read here, because OpenCV crashes for a path that is not UTF-8
        picture = cv2.imdecode(np.fromfile(file, np.uint8), flags)
    except (OSError, cv2.error) as error:
        raise RequestError(f'{file}: cannot be read as a picture: {error}') from error
    if picture is None:
        raise RequestError(f'{file}: cannot be read as a picture')
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise RequestError(f'{file}: is {picture.dtype} of shape {picture.shape}, expected 8-bit colour')
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths are the same existing file, also through links or another case of letters."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    """Calibrate, write the table and its plot."""
    args = arguments().parse_args(words)
    output: Path = args.output
    if output.suffix != '.npy' or not output.absolute().parent.is_dir():
        raise RequestError(f'{output}: the output must be a name that ends in .npy, in an existing folder')
    plot = output.with_suffix('.response.png')
    for place in (output, plot):
        if any(same_file(place, picture) for picture in args.pictures):
            raise RequestError(f'{place}: would overwrite one of the pictures; choose another name for -o')
    times = args.exposures or exposures_of(args.pictures)
    camera = calibrate_response([read(file) for file in args.pictures], times, name=str(output))
    with refusing_unwritable(output), written_whole(plot) as new_plot, written_whole(output) as new_table:
        np.save(new_table, camera.table)
        draw_response(camera, new_plot)
    print(f'{output}: light of 256 levels, RGB, from {len(args.pictures)} pictures. {camera.note.capitalize()}.')
    print(f'{plot}: the three curves; they should rise smoothly and lie close together.')
    print(f'Next: python scripts/synthesize_blur.py SOURCE TARGET --response {shlex.quote(str(output))}')


if __name__ == '__main__':
    sys.exit(main())
