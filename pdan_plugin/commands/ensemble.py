"""`basicsr ensemble`: merges the results of several models into one folder."""

from __future__ import annotations

import argparse
import shlex

from pdan_plugin.commands.argument_types import file_path, refuse_absent, whole_number
from pdan_plugin.errors import RequestError, WorkError

CONTINUES = True

DESCRIPTION = """\
Merges the results of several models into one folder, picture by picture, weighted by sharpness patch by patch.

    basicsr ensemble results/PDAN results/RCAN results/EDSR -o merged [--blend] [--gt FOLDER_OR_STORE]

The picture is cut into 4x4 patches. An auto-focus function scores each model's patch, and the scores are the weights of
the mean. The patches' edges may show; --blend interpolates the weights between the patches' centres instead. Pictures
of the same name are merged. After an interruption, the same command continues.
"""

# As in `metrics.sharpness`, `ensembling.patch_ensemble` and `ensembling.folder_ensemble`, which are slow to import; the
# first is the default.
SHARPNESS = (
    'tenengrad', 'brenner', 'energy_of_laplacian', 'sum_modified_laplacian', 'variance', 'normalised_variance',
    'vollath_f4', 'smd2',
)  # fmt: skip
GRID = 4
SCORES = 'scores.csv'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'folders',
        nargs='+',
        type=file_path,
        metavar='FOLDER',
        help='results/NAME of basicsr test, or a folder of PNGs; two or more',
    )
    parser.add_argument('-o', '--output', type=file_path, required=True, metavar='FOLDER', help='a new folder')
    parser.add_argument(
        '--sharpness',
        choices=SHARPNESS,
        help=f'the function that weights the patches (default: {SHARPNESS[0]})',
    )
    parser.add_argument('--grid', type=whole_number(1), metavar='N', help=f'patches along each side (default: {GRID})')
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument('--blend', action='store_true', help="interpolate the weights between the patches' centres")
    kind.add_argument('--mean', action='store_true', help='write the plain mean')
    parser.add_argument(
        '--gt',
        type=file_path,
        metavar='FOLDER_OR_STORE',
        help=f'ground truth: score every model and every merge, and write {SCORES} in the output folder',
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks which arguments go together, and that the folders exist.

    Raises:
        RequestError: They do not.
    """
    if arguments.mean and arguments.gt is None and (arguments.sharpness or arguments.grid):
        raise RequestError('--mean uses no weights: leave out --sharpness and --grid, or give --gt to score all merges')
    refuse_absent(
        'no such folder; give results/NAME, which basicsr test writes with val.save_img: true, or a folder of PNGs',
        *arguments.folders,
    )
    if arguments.gt is not None:
        refuse_absent('no such folder or store', arguments.gt, name='--gt')


def run(arguments: argparse.Namespace) -> int:
    """Merges and returns the exit status.

    Raises:
        RequestError: See `merge_folders`.
        WorkError: A picture could not be merged.
    """
    from pdan_plugin.ensembling.folder_ensemble import merge_folders

    output, truth = arguments.output, arguments.gt
    ensemble = merge_folders(
        arguments.folders,
        output,
        merge='mean' if arguments.mean else 'blended' if arguments.blend else 'patches',
        sharpness=arguments.sharpness or SHARPNESS[0],
        grid=arguments.grid or GRID,
        ground_truth=truth,
    )
    if ensemble.scores:
        print(ensemble.table())
        print(f'Scores of every picture: {output / SCORES}')
    print(f'{ensemble.pictures - len(ensemble.failures)} of {ensemble.pictures} pictures are in {output}')
    if ensemble.failures:
        raise WorkError('not merged:\n  ' + '\n  '.join(ensemble.failures.values()))
    if truth:
        print(
            f'Next, a sheet to look at: basicsr picture-sheet --lr LR --gt {shlex.quote(str(truth))} '
            f'--results {shlex.quote(f"ensemble={output}")} -o {shlex.quote(f"{output}.png")}'
        )
    else:
        print('Next, its score: the same command with --gt FOLDER_OR_STORE')
    return 0
