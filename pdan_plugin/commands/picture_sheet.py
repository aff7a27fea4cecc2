"""`basicsr picture-sheet`: draws inputs, results and ground truth side by side, and prints their scores."""

from __future__ import annotations

import argparse
from pathlib import Path

from pdan_plugin.commands.argument_types import file_path, refuse_absent, whole_number
from pdan_plugin.errors import RequestError

DESCRIPTION = """\
Draws a sheet of pictures (LR, bicubic, results, ground truth) and prints the mean PSNR and SSIM of each.

    basicsr picture-sheet --lr STORE_OR_FOLDER --gt STORE_OR_FOLDER --results PDAN=FOLDER -o sheet.png

A result's folder holds CLIP_FRAME.png, as basicsr test writes it under results/NAME/visualization/DATASET.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; results are parsed to (name, folder)."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--lr', type=file_path, required=True, help='input frames: a store (.lmdb) or a folder of clips'
    )
    parser.add_argument('--gt', type=file_path, required=True, help='ground truth: a store or a folder of clips')
    parser.add_argument(
        '--results',
        type=_named_folder,
        nargs='+',
        default=[],
        metavar='NAME=FOLDER',
        help='restored frames, one column for each',
    )
    parser.add_argument('-o', '--output', type=file_path, required=True, metavar='PNG', help='the sheet')
    parser.add_argument('--frames', nargs='+', metavar='CLIP/FRAME', help='frames to show (default: spread over all)')
    parser.add_argument(
        '--rows', type=whole_number(1), default=6, help='how many to show without --frames (default: %(default)s)'
    )
    parser.add_argument(
        '--json', action='store_true', help="write the scores beside the sheet, with the sheet's name and .json"
    )
    parser.add_argument(
        '--require-gain',
        type=float,
        metavar='DB',
        help='exit with status 1 unless the last result is this far above bicubic in mean PSNR',
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks the output, which arguments go together, and that the frames exist.

    Raises:
        RequestError: They cannot be used.
    """
    if arguments.output.suffix.lower() != '.png':
        raise RequestError(f'{arguments.output}: the sheet must be a PNG; give a name that ends in .png')
    if len(dict(arguments.results)) < len(arguments.results):
        raise RequestError('--results: two results have the same name')
    if arguments.require_gain is not None and not arguments.results:
        raise RequestError('--require-gain needs a result to compare with bicubic (--results NAME=FOLDER)')
    refuse_absent('no such folder; give a store (.lmdb) or a folder of clips', arguments.lr, name='--lr')
    refuse_absent('no such folder; give a store (.lmdb) or a folder of clips', arguments.gt, name='--gt')


def run(arguments: argparse.Namespace) -> int:
    """Draws the sheet, prints the scores and returns the exit status: 1 if a required gain is not reached.

    Raises:
        RequestError: A frame is missing or cannot be read.
    """
    from pdan_plugin.data.frame_codec import encode_picture
    from pdan_plugin.files.json_files import write_json
    from pdan_plugin.files.whole_files import write_whole
    from pdan_plugin.report import ComparedFrames, evenly_spread

    frames = ComparedFrames(arguments.lr, arguments.gt, dict(arguments.results))
    shown = arguments.frames or evenly_spread(frames.keys, arguments.rows)
    scores = frames.score()
    sheet = frames.draw(shown, scores)
    write_whole(arguments.output, encode_picture(sheet, 'png'))
    print(scores.table())
    print(f'Sheet: {arguments.output}')
    if arguments.json:
        path = arguments.output.with_suffix('.json')
        write_json(path, scores.as_json())
        print(f'Scores: {path}')
    if arguments.require_gain is None:
        return 0
    name = arguments.results[-1][0]
    gain = scores.gain(name)
    reached = gain >= arguments.require_gain
    print(
        f'{name} is {gain:+.2f} dB from bicubic; at least {arguments.require_gain:+.2f} dB is required: '
        f'{"reached" if reached else "NOT reached"}.'
    )
    return 0 if reached else 1


def _named_folder(text: str) -> tuple[str, Path]:
    """``NAME=FOLDER`` to (name, folder)."""
    name, equals, folder = text.partition('=')
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=FOLDER')
    return name, Path(folder)
