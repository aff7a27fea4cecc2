"""REDS's folders or zips to the stores training reads: see `python scripts/prepare_reds.py --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.preparation.store_preparation import prepare_reds


@ends_script
def main(words: Sequence[str] | None = None) -> None:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description=(
            'Make LMDB stores from REDS. It may be interrupted at any moment: the same command goes '
            'on where it stopped.'
        )
    )
    parser.add_argument(
        'source', metavar='SOURCE', help="the folder that holds REDS's train/ and val/, or its zips (read in place)"
    )
    parser.add_argument('target', metavar='TARGET', help='the folder to make the stores in, such as datasets/REDS')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'val300'],
        help='default: train and val, as far as SOURCE has them; val300 is every tenth frame of val, stored apart',
    )
    parser.add_argument(
        '--codec',
        choices=['bmp', 'png'],
        default='bmp',
        help='bmp is read far faster, png takes about half the room (default: bmp)',
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='threads that decode and encode (default: the cores, 8 at most)'
    )
    parser.add_argument(
        '--verify',
        action='store_true',
        help=(
            'read every frame of the stores back and compare it with the checksum of its source, taken when it was '
            'stored; frames without one, of stores made by other tools, are compared with the source itself'
        ),
    )
    parser.add_argument(
        '--make-sharp-bicubic',
        action='store_true',
        help=(
            'where the sharp_bicubic set is missing, make its store from the sharp frames (else training '
            'makes them as it reads)'
        ),
    )
    parser.add_argument(
        '--from-zip', action='store_true', help='read the zips also where unpacked folders lie beside them'
    )
    parser.add_argument(
        '--sub-images',
        nargs=2,
        type=int,
        metavar=('SIZE', 'STEP'),
        help=(
            'store the train split cut into squares of SIZE pixels every STEP pixels of the HR frame, both multiples '
            "of 4 (the field's usual: 480 240), in stores called ..._sub.lmdb: for --codec png, whose frames are "
            'decoded whole for every crop'
        ),
    )
    prepare_reds(**vars(parser.parse_args(words)))


if __name__ == '__main__':
    sys.exit(main())
