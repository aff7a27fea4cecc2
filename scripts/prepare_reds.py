"""REDS's folders or zips to the stores training reads: see `python scripts/prepare_reds.py --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pdan_plugin.data.store_preparation import VerificationError, prepare_reds
from pdan_plugin.errors import RequestError


def main(arguments: Sequence[str] | None = None) -> int:
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
    parser.add_argument('--verify', action='store_true', help='read every frame back and compare it with its source')
    parser.add_argument(
        '--make-sharp-bicubic',
        action='store_true',
        help=(
            'where the sharp_bicubic set is missing, make its store from the sharp frames (else training '
            'makes them as it reads)'
        ),
    )
    chosen = parser.parse_args(arguments)
    try:
        prepare_reds(**vars(chosen))
    except RequestError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except VerificationError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted; the same command goes on from here', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
