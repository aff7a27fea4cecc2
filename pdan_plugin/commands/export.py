"""`basicsr export`: writes a trained network for other programs."""

from __future__ import annotations

import argparse
import os

from pdan_plugin.commands.argument_types import file_path
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.shipped_options import find_option_file
from pdan_plugin.weights.export_request import check_export

DESCRIPTION = """\
Writes a trained network for other programs: as an ONNX model, or as safetensors with the network's description.

    basicsr export WEIGHTS [-opt FILE] -o FILE.onnx [--fp16] [--opset N] [--size H W] [--overwrite]
    basicsr export WEIGHTS [-opt FILE] -o FILE.safetensors [--fp16] [--overwrite]

An ONNX model takes pictures of any size, float32 RGB in [0, 1]. A network that computes in windows, such as SwinIR,
needs --size; its model takes one picture of that size. A model is kept only if onnxruntime computes the same as torch
with it, at four sizes or at the one given. Safetensors can be used without the option file and the experiment folder.
An earlier export at FILE is replaced; any other file only with --overwrite.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        'weights',
        type=file_path,
        metavar='WEIGHTS',
        help='trained weights: .pth, .safetensors, or pdan_small, which comes with this package',
    )
    parser.add_argument(
        '-opt', type=file_path, metavar='FILE', help='the option file of the training (default: the one in its folder)'
    )
    parser.add_argument(
        '-o', '--output', type=file_path, required=True, metavar='FILE', help='FILE.onnx or FILE.safetensors'
    )
    parser.add_argument(
        '--param-key', metavar='KEY', help='which weights of a file with several (default: the average, if it has one)'
    )
    parser.add_argument('--fp16', action='store_true', help='float16 inside; pictures stay float32')
    parser.add_argument('--opset', type=int, metavar='N', help="the ONNX model's opset, 18 to 23 (default: 18)")
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help='an ONNX model for one picture of this size (default: pictures of any size)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace any file (default: an earlier export, and no other file)'
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks the request without reading a file, before anything slow is imported.

    Raises:
        RequestError: See `check_export`; or there is no such option file.
    """
    check_export(arguments.weights, arguments.output, opset=arguments.opset, size=arguments.size)
    if arguments.opt is not None and not os.path.exists(find_option_file(arguments.opt)):
        raise RequestError(f'-opt {arguments.opt}: no such option file; `basicsr options` lists those of the package')


def run(arguments: argparse.Namespace) -> int:
    """Writes the file and returns the exit status.

    Raises:
        RequestError: See `export_network`.
        WorkError: The result of the ONNX model differs from torch's.
    """
    from pdan_plugin.weights.network_export import export_network

    text = export_network(
        arguments.weights,
        arguments.output,
        arguments.opt,
        float16=arguments.fp16,
        opset=arguments.opset,
        size=None if arguments.size is None else (arguments.size[0], arguments.size[1]),
        param_key=arguments.param_key,
        overwrite=arguments.overwrite,
    )
    print(text)
    return 0
