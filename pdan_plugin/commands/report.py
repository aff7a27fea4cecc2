#!/usr/bin/env python
"""Writes an HTML page of one test run or of several side by side, or a figure in the style of papers.

    python scripts/report.py results/NAME                                  writes results/NAME/report.html
    python scripts/report.py results/A results/B -o compare.html
    python scripts/report.py --figure results/A results/B -o figure.png    your own run last

The page needs no network and no other file, so it can be sent or opened on a phone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pdan_plugin  # noqa: F401  (registers the data sets)
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.report.detail_box import read_box
from pdan_plugin.report.page import FRAMES, write_report
from pdan_plugin.report.paper_figure import write_figure


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'runs', type=Path, nargs='+', metavar='RUN', help='result folders of basicsr test: results/NAME'
    )
    parser.add_argument(
        '-o', '--output', type=Path, metavar='FILE', help='the page (default with one run: RUN/report.html) or figure'
    )
    parser.add_argument('--metric', help='metric that selects frames (default: psnr, or the first that all runs have)')
    parser.add_argument(
        '--frames', type=int, metavar='N', help=f'frames of each data set shown in pictures (default: {FRAMES})'
    )
    parser.add_argument('--figure', action='store_true', help='a figure instead of a page: .png, .pdf, .svg or .jpg')
    parser.add_argument(
        '--image', metavar='CLIP_FRAME', help='figure: the image (default: the one where the runs differ most)'
    )
    parser.add_argument(
        '--box', metavar='X,Y,W,H', help='figure: the crop, in pixels of the result (default: where they differ most)'
    )
    parser.add_argument('--dataset', metavar='NAME', help='figure: the data set (default: the only one)')
    return parser


@ends_script
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    try:
        if args.figure:
            _draw_figure(args)
        else:
            _write_page(args)
    except OSError as error:
        raise WorkError(f'{error.filename or args.output}: {error.strerror or error}') from error


def _write_page(args: argparse.Namespace) -> None:
    for option in ('image', 'box', 'dataset'):
        if getattr(args, option) is not None:
            raise RequestError(f'--{option} belongs to --figure; leave it out, or add --figure')
    frames = FRAMES if args.frames is None else args.frames
    page = write_report(args.runs, args.output, frames=frames, metric=args.metric)
    print(f'Report: {page} ({disk_in_words(page.stat().st_size)})')
    runs = shlex.join(map(str, args.runs))
    print(f'Open it in a browser. Next, a figure:\n  python scripts/report.py --figure {runs} -o figure.png')


def _draw_figure(args: argparse.Namespace) -> None:
    if args.frames is not None:
        raise RequestError('--frames belongs to the page; a figure shows one image (--image)')
    if args.output is None:
        raise RequestError('--figure needs an output file: -o figure.png')
    box = None if args.box is None else read_box(args.box)
    figure = write_figure(args.runs, args.output, image=args.image, box=box, metric=args.metric, dataset=args.dataset)
    print(f'Figure: {args.output} ({figure.image}, box {",".join(map(str, figure.box))})')
    words = ['python', 'scripts/report.py', '--figure', *args.runs, '-o', args.output, '--image', figure.image]
    print(f'Another detail of it:\n  {shlex.join(map(str, words))} --box X,Y,W,H')


if __name__ == '__main__':
    sys.exit(main())
