#!/usr/bin/env python
"""The paper's tables, comparison and ablation, by training and testing every row of them.

    python scripts/reproduce_tables.py                    the small rows: all of them with seed 0, then 1, then 2
    python scripts/reproduce_tables.py --rows hpem        one row alone; the others stay as they are
    python scripts/reproduce_tables.py --full --nproc 8   the paper's sizes, on REDS

Stop it at any moment: the same command goes on in the middle of the row. TABLES/tables.md is written anew after each
run; TABLES/logs has what each run says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pdan_plugin  # noqa: F401  (registers what the option files name)
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
    parser.add_argument('--iterations', type=int, metavar='N', help="of every training (default: its option file's)")
    parser.add_argument(
        '--precision',
        choices=tuple(AUTOCAST_DTYPES),
        help='likewise; fp32 where the processor has no instructions for bf16, which is ten times slower there',
    )
    parser.add_argument(
        '--output', type=Path, metavar='FOLDER', help='default: tables, with --full tables_full; all runs are in it'
    )
    parser.add_argument(
        '--again', nargs='+', default=[], metavar='ROW', help="remove these rows' runs first, and do them anew"
    )
    parser.add_argument(
        '--score-again', action='store_true', help='test trained rows once more, such as when LPIPS was installed since'
    )
    parser.add_argument(
        '--lpips-weights', metavar='FILE', help="AlexNet's, where they are not in torch's cache; without, no LPIPS"
    )
    parser.add_argument('--nproc', type=int, metavar='N', help='workers of each training and test')
    parser.add_argument(
        '--options', type=Path, default=Path('options'), metavar='FOLDER', help='holds baselines/ and ablation/'
    )
    return parser


@ends_script(restartable=False)  # how to go on depends on what was asked for, and is told where it stops
def main(words: Sequence[str] | None = None) -> None:
    """What the command line asks for."""
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
