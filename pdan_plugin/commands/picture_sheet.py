"""Draws a sheet of pictures (LR, bicubic, results, ground truth) and prints the mean PSNR and SSIM of each.

    python scripts/picture_sheet.py --lr STORE_OR_FOLDER --gt STORE_OR_FOLDER --results PDAN=FOLDER -o sheet.png

A result's folder holds CLIP_FRAME.png, as basicsr test writes it under results/NAME/visualization/DATASET.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pdan_plugin.commands.argument_types import whole_number
from pdan_plugin.data.frame_codec import encode_picture
from pdan_plugin.errors import RequestError
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.processes.command_start import print_any_name
from pdan_plugin.report import ComparedFrames, evenly_spread


def named_folder(text: str) -> tuple[str, Path]:
    """``NAME=FOLDER`` to (name, folder)."""
    name, equals, folder = text.partition('=')
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=FOLDER')
    return name, Path(folder)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lr', type=Path, required=True, help='input frames: a store (.lmdb) or a folder of clips')
    parser.add_argument('--gt', type=Path, required=True, help='ground truth: a store or a folder of clips')
    parser.add_argument(
        '--results',
        type=named_folder,
        nargs='+',
        default=[],
        metavar='NAME=FOLDER',
        help='restored frames, one column for each',
    )
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='PNG', help='the sheet')
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
    return parser


def draw(args: argparse.Namespace) -> int:
    """Draws the sheet and prints the scores; returns the exit status.

    Raises:
        RequestError: The request cannot be carried out.
    """
    if args.output.suffix.lower() != '.png':
        raise RequestError(f'{args.output}: the sheet must be a PNG; give a name that ends in .png')
    if len(dict(args.results)) < len(args.results):
        raise RequestError('--results: two results have the same name')
    if args.require_gain is not None and not args.results:
        raise RequestError('--require-gain needs a result to compare with bicubic (--results NAME=FOLDER)')
    frames = ComparedFrames(args.lr, args.gt, dict(args.results))
    shown = args.frames or evenly_spread(frames.keys, args.rows)
    scores = frames.score()
    sheet = frames.draw(shown, scores)
    write_whole(args.output, encode_picture(sheet, 'png'))
    print(scores.table())
    print(f'Sheet: {args.output}')
    if args.json:
        path = args.output.with_suffix('.json')
        write_json(path, scores.as_json())
        print(f'Scores: {path}')
    if args.require_gain is None:
        return 0
    name = args.results[-1][0]
    gain = scores.gain(name)
    reached = gain >= args.require_gain
    print(
        f'{name} is {gain:+.2f} dB from bicubic; at least {args.require_gain:+.2f} dB is required: '
        f'{"reached" if reached else "NOT reached"}.'
    )
    return 0 if reached else 1


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 the required gain is not reached, 2 the request was wrong."""
    print_any_name()
    try:
        return draw(arguments().parse_args(words))
    except RequestError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
