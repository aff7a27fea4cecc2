"""`basicsr app`: a page in the browser to restore a picture or a short video."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from pdan_plugin.commands.argument_types import file_path, memory_size, number, whole_number
from pdan_plugin.errors import RequestError
from pdan_plugin.weights.packaged_weights import find_weights_file

LOCAL = '127.0.0.1'

DESCRIPTION = """\
Opens a page to try a network: drop a picture or a short video, choose weights, compare with a slider, download.

    basicsr app                     prints the address of the page, for this computer alone
    basicsr app -w net_g.pth        offers your own weights, too

It needs the extra `app`: pip install 'pdan-plugin[app]'. Ctrl-C ends it and removes all uploaded files and results.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '-w',
        '--weights',
        type=file_path,
        nargs='+',
        default=[],
        metavar='FILE',
        help='further weights to offer, as in `basicsr restore -w`; the first one is selected when the page opens',
    )
    parser.add_argument('--device', default='auto', metavar='NAME', help='as of `basicsr restore` (default: auto)')
    parser.add_argument(
        '--precision',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
        default='auto',
        help='number format, as of `basicsr restore` (default: auto)',
    )
    parser.add_argument(
        '--host',
        default=LOCAL,
        metavar='ADDRESS',
        help=f'where to listen; 0.0.0.0 lets everyone in your network use the page (default: {LOCAL})',
    )
    parser.add_argument(
        '--port', type=whole_number(1, 65535), metavar='N', help='default: the first free one from 7860 on'
    )
    parser.add_argument(
        '--megapixels',
        type=number(0.01, 1000),
        default=4.0,
        metavar='N',
        help='the largest picture or video frame (default: 4)',
    )
    parser.add_argument(
        '--seconds', type=number(0.1, 36000), default=20.0, metavar='N', help='the longest video (default: 20)'
    )
    parser.add_argument(
        '--upload', type=memory_size, default=200 * 2**20, metavar='SIZE', help='the largest file (default: 200M)'
    )
    parser.add_argument('--open', action='store_true', help='open the page in the browser')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that Gradio is installed and that the weights exist, before anything slow is imported.

    Raises:
        RequestError: They are not.
    """
    if find_spec('gradio') is None:
        raise RequestError("the page needs Gradio: pip install 'pdan-plugin[app]'")
    for asked in arguments.weights:
        if not find_weights_file(asked)[0].is_file():
            raise RequestError(f'-w {asked}: no such file')


def run(arguments: argparse.Namespace) -> int:
    """Shows the page until Ctrl-C and returns the exit status.

    Raises:
        RequestError: Weights cannot be used, or the address is taken.
    """
    from pdan_plugin.app.server import serve

    serve(
        arguments.weights,
        device=arguments.device,
        precision=arguments.precision,
        host=arguments.host,
        port=arguments.port,
        megapixels=arguments.megapixels,
        seconds=arguments.seconds,
        upload=arguments.upload,
        opens_browser=arguments.open,
        say=lambda text: print(text, flush=True),
    )
    return 0
