"""`basicsr restore`: restores a picture, a video, or a folder of them with a trained network."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pdan_plugin.commands.argument_types import memory_size, whole_number
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.shipped_options import find_option_file
from pdan_plugin.weights.packaged_weights import DEFAULT, find_weights, packaged_weights

PREPARES_TOOLBOX = False  # this package's own networks work without it; `network_section` prepares it for others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments. Sizes are parsed to bytes, the tile to a number or 'auto'."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='a picture, a video, or a folder of both')
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        required=True,
        help='where to write the results: a folder; for one picture or video also a file',
    )
    parser.add_argument(
        '-w',
        '--weights',
        type=Path,
        metavar='FILE',
        help='the trained weights: net_g_ITER.pth, .safetensors, or the name of weights in this package '
        f'({", ".join(packaged_weights())}; default: {DEFAULT})',
    )
    parser.add_argument(
        '-opt',
        dest='option_file',
        type=Path,
        metavar='FILE',
        help='the option file the weights were trained with (default: found beside or inside the weights)',
    )
    parser.add_argument(
        '--param-key',
        metavar='KEY',
        help='which weights of a file with several: a key of the file, or the beginning of their names (default: found '
        'by the names of the network, the average if there is one)',
    )
    parser.add_argument(
        '--precision',
        choices=('fp32', 'bf16', 'fp16'),
        default='fp32',
        help='number format of the network; bf16 and fp16 are faster if the device supports them (default: fp32)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile the network: the first picture takes longer (for a deep network minutes), and so does the first '
        'one of another size. Try it on a few pictures: in fp32 on a CPU it does not make a PDAN faster',
    )
    parser.add_argument(
        '--tile',
        type=_tile,
        default='auto',
        metavar='auto|N',
        help='largest side of the tiles of large pictures, in pixels of the input (default: auto, chosen by the free '
        'memory)',
    )
    parser.add_argument(
        '--overlap', type=int, metavar='N', help='pixels that tiles share (default: measured for the network)'
    )
    parser.add_argument(
        '--memory',
        type=memory_size,
        metavar='SIZE',
        help='memory that --tile auto may use, such as 4G or 500M (default: four fifths of the free memory)',
    )
    parser.add_argument(
        '--self-ensemble',
        action='store_true',
        help='mean of the results of all eight flips and rotations: a little better, eight times the time',
    )
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ... (default: cuda if there is one)')
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that the input, the weights and the option file exist, before anything slow is imported.

    Raises:
        RequestError: One of them does not.
    """
    if not os.path.exists(arguments.input):  # also false for a name that is too long
        raise RequestError(f'{arguments.input}: no such picture, video or folder.')
    weights, _ = find_weights(arguments.weights)
    if not os.path.exists(weights):
        raise RequestError(f'{weights}: no such weights file.')
    if arguments.option_file is not None and not os.path.exists(find_option_file(arguments.option_file)):
        raise RequestError(f'-opt {arguments.option_file}: no such option file')


def run(arguments: argparse.Namespace) -> int:
    """Restores and returns the exit status: 1 if something could not be restored completely.

    Raises:
        RequestError: The request is wrong; nothing has been written.
    """
    from pdan_plugin.restoration.file_restoration import restore_path

    return restore_path(
        arguments.input,
        arguments.output,
        arguments.weights,
        arguments.option_file,
        param_key=arguments.param_key,
        precision=arguments.precision,
        compiled=arguments.compile,
        tile=arguments.tile,
        overlap=arguments.overlap,
        memory=arguments.memory,
        self_ensemble=arguments.self_ensemble,
        device=arguments.device,
        overwrite=arguments.overwrite,
    )


def _tile(text: str) -> int | str:
    if text == 'auto':
        return text
    try:
        return whole_number(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{error}, or auto') from None
