"""`basicsr prepare-reds`: makes the stores that training reads from REDS's folders or zips."""

from __future__ import annotations

import argparse

from pdan_plugin.commands.argument_types import path_word, refuse_absent, whole_number

CONTINUES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = (
        'Make LMDB stores from REDS. It may be interrupted at any moment: the same command continues where it stopped.'
    )
    parser.add_argument(
        'source',
        type=path_word,
        metavar='SOURCE',
        help="the folder that holds REDS's train/ and val/, or its zips (read in place)",
    )
    parser.add_argument(
        'target', type=path_word, metavar='TARGET', help='the folder to make the stores in, such as datasets/REDS'
    )
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'val300'],
        help='default: train and val, if SOURCE has them; val300 is every tenth frame of val, in separate stores',
    )
    parser.add_argument(
        '--codec',
        choices=['bmp', 'png'],
        default='bmp',
        help='bmp is read much faster, png takes about half the space (default: bmp)',
    )
    parser.add_argument(
        '--workers',
        type=whole_number(1),
        metavar='N',
        help='threads that decode and encode (default: the cores, 8 at most)',
    )
    parser.add_argument(
        '--verify',
        action='store_true',
        help=(
            'read every frame of the stores back and compare it with the checksum its source had when it was stored; '
            'frames without a checksum (from other tools) are compared with their source'
        ),
    )
    parser.add_argument(
        '--make-sharp-bicubic',
        action='store_true',
        help=(
            'if the sharp_bicubic set is missing, make its store from the sharp frames (otherwise training '
            'computes these frames while it reads)'
        ),
    )
    parser.add_argument(
        '--from-zip', action='store_true', help='read the zips even if unpacked folders lie beside them'
    )
    parser.add_argument(
        '--sub-images',
        nargs=2,
        type=int,
        metavar=('SIZE', 'STEP'),
        help=(
            'store the train split as squares of SIZE pixels every STEP pixels of the HR frame, both multiples of 4 '
            '(usual: 480 240), in stores called ..._sub.lmdb; useful with --codec png, which decodes a whole picture '
            'for every crop'
        ),
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that the source exists, before anything slow is imported.

    Raises:
        RequestError: It does not.
    """
    refuse_absent("no such folder (expected the folder with REDS's train/ and val/ or its zips)", arguments.source)


def run(arguments: argparse.Namespace) -> int:
    """Makes the stores and returns the exit status.

    Raises:
        RequestError: See `prepare_reds`.
    """
    from pdan_plugin.preparation.store_preparation import prepare_reds

    prepare_reds(
        arguments.source,
        arguments.target,
        splits=arguments.splits,
        codec=arguments.codec,
        workers=arguments.workers,
        verify=arguments.verify,
        make_sharp_bicubic=arguments.make_sharp_bicubic,
        from_zip=arguments.from_zip,
        sub_images=arguments.sub_images,
    )
    return 0
