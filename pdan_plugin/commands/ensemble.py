"""Merges the results of several models into one folder, picture by picture, weighted by sharpness patch by patch.

    python scripts/ensemble.py results/PDAN results/RCAN results/EDSR -o merged [--blend] [--gt FOLDER_OR_STORE]

The picture is cut into 4x4 patches. An auto-focus function scores each model's patch, and the scores are the weights of
the mean. The patches' edges may show; --blend interpolates the weights between the patches' centres instead. Pictures
of the same name are merged. After an interruption, the same command continues.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pdan_plugin.commands.argument_types import whole_number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.ensembling.folder_ensemble import SCORES, merge_folders
from pdan_plugin.ensembling.patch_ensemble import GRID
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS

DEFAULT_SHARPNESS = 'tenengrad'


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'folders',
        nargs='+',
        type=Path,
        metavar='FOLDER',
        help='results/NAME of basicsr test, or a folder of PNGs; two or more',
    )
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FOLDER', help='a new folder')
    parser.add_argument(
        '--sharpness',
        choices=FOCUS_FUNCTIONS,
        help=f'the function that weights the patches (default: {DEFAULT_SHARPNESS})',
    )
    parser.add_argument('--grid', type=whole_number(1), metavar='N', help=f'patches along each side (default: {GRID})')
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--blend', action='store_true', help="interpolate the weights between the patches' centres")
    kind.add_argument('--mean', action='store_true', help='write the plain mean')
    parser.add_argument(
        '--gt',
        type=Path,
        metavar='FOLDER_OR_STORE',
        help=f'ground truth: score every model and every merge, and write {SCORES} in the output folder',
    )
    return parser


@ends_script
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`; 1 also if a picture could not be merged."""
    args = arguments().parse_args(words)
    if args.mean and args.gt is None and (args.sharpness or args.grid):
        raise RequestError('--mean uses no weights: leave out --sharpness and --grid, or give --gt to score all merges')
    ensemble = merge_folders(
        args.folders,
        args.output,
        merge='mean' if args.mean else 'blended' if args.blend else 'patches',
        sharpness=args.sharpness or DEFAULT_SHARPNESS,
        grid=args.grid or GRID,
        ground_truth=args.gt,
    )
    if ensemble.scores:
        print(ensemble.table())
        print(f'Scores of every picture: {args.output / SCORES}')
    print(f'{ensemble.pictures - len(ensemble.failures)} of {ensemble.pictures} pictures are in {args.output}')
    if ensemble.failures:
        raise WorkError('not merged:\n  ' + '\n  '.join(ensemble.failures.values()))
    if args.gt:
        print(
            f'Next, a sheet to look at: python scripts/picture_sheet.py --lr LR --gt {shlex.quote(str(args.gt))} '
            f'--results {shlex.quote(f"ensemble={args.output}")} -o {shlex.quote(f"{args.output}.png")}'
        )
    else:
        print('Next, its score: the same command with --gt FOLDER_OR_STORE')


if __name__ == '__main__':
    sys.exit(main())
