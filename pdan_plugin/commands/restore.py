"""`basicsr restore`: a picture, a video, or a folder of them, through a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path

from pdan_plugin.weights.packaged_weights import DEFAULT, packaged_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes arrive in bytes, the tile as a number or 'auto'."""
    parser.add_argument('input', type=Path, metavar='INPUT', help='a picture, a video, or a folder of both')
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        required=True,
        help='where the results go: a folder, or for one picture or video also a file',
    )
    parser.add_argument(
        '-w',
        '--weights',
        type=Path,
        metavar='FILE',
        help='the trained weights: net_g_ITER.pth, .safetensors, or the name of weights that come with this package '
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
        '--precision',
        choices=('fp32', 'bf16', 'fp16'),
        default='fp32',
        help='number format of the network; bf16 and fp16 are faster where the device computes them (default: fp32)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile the network: the first picture takes longer, by minutes where the network is deep, and once more '
        'one of another size. Try it on a few: in fp32 on a CPU a PDAN is no faster for it',
    )
    parser.add_argument(
        '--tile',
        type=_tile,
        default='auto',
        metavar='auto|N',
        help='largest side of the tiles large pictures go through in, in pixels of the input (default: auto, what '
        'memory allows)',
    )
    parser.add_argument(
        '--overlap', type=int, metavar='N', help='pixels that tiles share (default: what the network needs)'
    )
    parser.add_argument(
        '--memory',
        type=_size,
        metavar='SIZE',
        help='what --tile auto may take, such as 4G or 500M (default: four fifths of what is free)',
    )
    parser.add_argument(
        '--self-ensemble',
        action='store_true',
        help='mean of the results of all eight flips and rotations: a little better, eight times the time',
    )
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ... (default: cuda if there is one)')
    parser.add_argument('--overwrite', action='store_true', help='make results again that are there already')


def run(arguments: argparse.Namespace) -> int:
    """Restores and returns the exit status: 1 where something could not be restored as a whole.

    Raises:
        RequestError: What is asked for cannot be done; nothing has been written.
    """
    from pdan_plugin.plugins import load_plugins
    from pdan_plugin.restoration.file_restoration import restore_path

    load_plugins(None)
    return restore_path(
        arguments.input,
        arguments.output,
        arguments.weights,
        arguments.option_file,
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
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected auto, or a number of pixels of at least 1')
    return int(text)


def _size(text: str) -> int:
    """Bytes; K, M, G and T are powers of 1024."""
    number, unit = text.upper().removesuffix('B').removesuffix('I'), 1
    if number[-1:] in tuple('KMGT'):
        number, unit = number[:-1], 1024 ** ('KMGT'.index(number[-1]) + 1)
    try:
        size = int(float(number) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size < 2**20:
        bytes_ = f' is {size} bytes' if size > 0 else ''
        raise argparse.ArgumentTypeError(f'{text!r}{bytes_}: expected a size such as 500M or 4G')
    return size
