"""`basicsr calibrate-response`: finds a camera's response from an exposure series."""

from __future__ import annotations

import argparse
import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from pdan_plugin.commands.argument_types import file_path
from pdan_plugin.errors import RequestError, refusing_unwritable

if TYPE_CHECKING:
    import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; exposure times are parsed to seconds."""
    parser.description = (
        'Find the response of a camera from pictures of one scene. Only the exposure time may differ: camera on a '
        'tripod, motionless scene, fixed aperture, sensitivity and white balance. Take five to nine pictures, each '
        'exposed at most twice as long as the one before, from one without white areas to one without black areas, '
        "in the camera's least compressed format: JPEG losses make the curve wavy. The pictures are not aligned."
    )
    parser.add_argument(
        'pictures', metavar='PICTURES', nargs='+', type=file_path, help='8-bit colour pictures of one size'
    )
    parser.add_argument(
        '-o',
        '--output',
        metavar='FILE',
        type=file_path,
        required=True,
        help='the table to write, STEM.npy; a plot of it goes to STEM.response.png',
    )
    parser.add_argument(
        '--exposures',
        metavar='SECONDS',
        nargs='+',
        type=_seconds,
        help="exposure times in the pictures' order, such as 1/60 1/30 1/15 (default: from their EXIF records)",
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks the output.

    Raises:
        RequestError: It is no .npy in an existing folder, or would overwrite one of the pictures.
    """
    output: Path = arguments.output
    if output.suffix != '.npy' or not output.absolute().parent.is_dir():
        raise RequestError(f'{output}: the output must be a name that ends in .npy, in an existing folder')
    for place in (output, _plot_of(output)):
        if any(_is_same_file(place, picture) for picture in arguments.pictures):
            raise RequestError(f'{place}: would overwrite one of the pictures; choose another name for -o')


def run(arguments: argparse.Namespace) -> int:
    """Calibrates, writes the table and its plot, and returns the exit status.

    Raises:
        RequestError: A picture cannot be used, or the pictures do not determine the response.
    """
    import numpy as np

    from pdan_plugin.files.whole_files import written_whole
    from pdan_plugin.report.response_curves import draw_response
    from pdan_plugin.synthesis.response_calibration import calibrate_response, exposures_of

    output, plot = arguments.output, _plot_of(arguments.output)
    times = arguments.exposures or exposures_of(arguments.pictures)
    camera = calibrate_response([_read(file) for file in arguments.pictures], times, name=str(output))
    with refusing_unwritable(output), written_whole(plot) as new_plot, written_whole(output) as new_table:
        np.save(new_table, camera.table)
        draw_response(camera, new_plot)
    print(f'{output}: light of 256 levels, RGB, from {len(arguments.pictures)} pictures. {camera.note.capitalize()}.')
    print(f'{plot}: the three curves; they should rise smoothly and lie close together.')
    print(f'Next: basicsr synthesize SOURCE TARGET --response {shlex.quote(str(output))}')
    return 0


def _plot_of(output: Path) -> Path:
    return output.with_suffix('.response.png')


def _seconds(text: str) -> float:
    """``1/60`` or ``0.0167`` as seconds."""
    above, line, below = text.partition('/')
    try:
        time = float(above) / float(below if line else 1)
    except (ValueError, ZeroDivisionError):
        time = 0.0
    if not 0 < time < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a time in seconds above 0, such as 1/60 or 0.0167')
    return time


def _read(file: Path) -> np.ndarray:
    """The picture, (h, w, 3) uint8 RGB."""
    from pdan_plugin.media.picture_files import PictureFileError, read_picture

    try:
        picture = read_picture(file)
    except (OSError, PictureFileError) as error:
        raise RequestError(f'{file}: cannot be read as a picture ({error})') from error
    if picture.bits != 8 or picture.is_grey or picture.alpha is not None:
        raise RequestError(f'{file}: is grey, transparent or of {picture.bits} bits; expected 8-bit colour')
    return picture.colour


def _is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths are the same existing file, also through links or another case of letters."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
