"""`basicsr report`: writes an HTML page of one test run or of several, or a figure in the style of papers."""

from __future__ import annotations

import argparse
import shlex

from pdan_plugin.commands.argument_types import file_path, refuse_absent, whole_number
from pdan_plugin.errors import RequestError, WorkError

DESCRIPTION = """\
Writes an HTML page of one test run or of several side by side, or a figure in the style of papers.

    basicsr report results/NAME                                  writes results/NAME/report.html
    basicsr report results/A results/B -o compare.html
    basicsr report --figure results/A results/B -o figure.png    your own run last

The page needs no network and no other file, so it can be sent or opened on a phone.
"""

FRAMES = 6  # as in `report.page`, which takes long to import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'runs', type=file_path, nargs='+', metavar='RUN', help='result folders of basicsr test: results/NAME'
    )
    parser.add_argument(
        '-o',
        '--output',
        type=file_path,
        metavar='FILE',
        help='the page (default with one run: RUN/report.html) or figure',
    )
    parser.add_argument('--metric', help='metric that selects frames (default: psnr, or the first that all runs have)')
    parser.add_argument(
        '--frames',
        type=whole_number(0),
        metavar='N',
        help=f'frames of each data set shown in pictures (default: {FRAMES})',
    )
    parser.add_argument('--figure', action='store_true', help='a figure instead of a page: .png, .pdf, .svg or .jpg')
    parser.add_argument(
        '--image', metavar='CLIP_FRAME', help='figure: the image (default: the one where the runs differ most)'
    )
    parser.add_argument(
        '--box', metavar='X,Y,W,H', help='figure: the crop, in pixels of the result (default: where they differ most)'
    )
    parser.add_argument('--dataset', metavar='NAME', help='figure: the data set (default: the only one)')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks which arguments go together, and that the runs exist.

    Raises:
        RequestError: They do not.
    """
    if not arguments.figure:
        for option in ('image', 'box', 'dataset'):
            if getattr(arguments, option) is not None:
                raise RequestError(f'--{option} belongs to --figure; leave it out, or add --figure')
    elif arguments.frames is not None:
        raise RequestError('--frames belongs to the page; a figure shows one image (--image)')
    elif arguments.output is None:
        raise RequestError('--figure needs an output file: -o figure.png')
    refuse_absent('no such folder; give a folder that basicsr test wrote: results/NAME', *arguments.runs)


def run(arguments: argparse.Namespace) -> int:
    """Writes the page or the figure and returns the exit status.

    Raises:
        RequestError: See `write_report` and `write_figure`.
        WorkError: A file cannot be read or written.
    """
    try:
        if arguments.figure:
            _draw_figure(arguments)
        else:
            _write_page(arguments)
    except OSError as error:
        raise WorkError(f'{error.filename or arguments.output}: {error.strerror or error}') from error
    return 0


def _write_page(arguments: argparse.Namespace) -> None:
    from pdan_plugin.machine.sizes import disk_in_words
    from pdan_plugin.report.page import write_report

    frames = FRAMES if arguments.frames is None else arguments.frames
    page = write_report(arguments.runs, arguments.output, frames=frames, metric=arguments.metric)
    print(f'Report: {page} ({disk_in_words(page.stat().st_size)})')
    runs = shlex.join(map(str, arguments.runs))
    print(f'Open it in a browser. Next, a figure:\n  basicsr report --figure {runs} -o figure.png')


def _draw_figure(arguments: argparse.Namespace) -> None:
    from pdan_plugin.report.detail_box import read_box
    from pdan_plugin.report.paper_figure import write_figure

    output = arguments.output
    box = None if arguments.box is None else read_box(arguments.box)
    figure = write_figure(
        arguments.runs, output, image=arguments.image, box=box, metric=arguments.metric, dataset=arguments.dataset
    )
    print(f'Figure: {output} ({figure.image}, box {",".join(map(str, figure.box))})')
    words = ['basicsr', 'report', '--figure', *arguments.runs, '-o', output, '--image', figure.image]
    print(f'Another detail of it:\n  {shlex.join(map(str, words))} --box X,Y,W,H')
