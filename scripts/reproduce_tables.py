#!/usr/bin/env python
"""Makes the paper's tables, comparison and ablation, by training and testing every row.

    python scripts/reproduce_tables.py                    the small rows: all of them with seed 0, then 1, then 2
    python scripts/reproduce_tables.py --rows hpem        only one row; the others do not change
    python scripts/reproduce_tables.py --full --nproc 8   the paper's sizes, on REDS

It may be stopped at any moment: the same command continues in the middle of the row. TABLES/tables.md is updated after
each run; TABLES/logs has the output of each run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pdan_plugin  # noqa: F401  (registers the networks and models of the option files)
from comparison.reproduction import reproduce
from comparison.rows import FULL, SMALL
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.machine.precision import AUTOCAST_DTYPES


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(row.name for row in (*SMALL.rows, *FULL.rows)))
    parser.add_argument('--full', action='store_true', help="the paper's sizes on REDS: options/baselines/*.yml ...")
    parser.add_argument('--rows', nargs='+', metavar='ROW', help=f'only these: {", ".join(names)}')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='N', help='default: 0 1 2')
    parser.add_argument(
        '--iterations', type=int, metavar='N', help="iterations of every training (default: its option file's)"
    )
    parser.add_argument(
        '--precision',
        choices=tuple(AUTOCAST_DTYPES),
        help='precision of every training; without bf16 instructions in the processor use fp32, which is ten times '
        'faster there',
    )
    parser.add_argument(
        '--output', type=Path, metavar='FOLDER', help='folder of all runs (default: tables, with --full tables_full)'
    )
    parser.add_argument(
        '--again', nargs='+', default=[], metavar='ROW', help="first remove these rows' runs, then repeat them"
    )
    parser.add_argument(
        '--score-again', action='store_true', help='test trained rows once more, for example after installing LPIPS'
    )
    parser.add_argument(
        '--lpips-weights',
        metavar='FILE',
        help="AlexNet's weights, if torch's cache does not have them; without weights, no LPIPS",
    )
    parser.add_argument('--nproc', type=int, metavar='N', help='workers of each training and test')
    parser.add_argument(
        '--options', type=Path, default=Path('options'), metavar='FOLDER', help='holds baselines/ and ablation/'
    )
    return parser


@ends_script(restartable=False)  # how to continue depends on the options: `reproduce` prints it when it stops
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    reproduce(
        args.output or Path('tables_full' if args.full else 'tables'),
        full=args.full,
        rows=args.rows,
        seeds=args.seeds,
        iterations=args.iterations,
        precision=args.precision,
        again=args.again,
        score_again=args.score_again,
        nproc=args.nproc,
        lpips_weights=args.lpips_weights,
        options=args.options,
        say=lambda text: print(text, flush=True),
    )


if __name__ == '__main__':
    sys.exit(main())
