#!/usr/bin/env python
"""Writes a trained network for other programs: as an ONNX model, or as safetensors with the network's description.

    python scripts/export_onnx.py WEIGHTS [-opt FILE] -o FILE.onnx [--fp16] [--opset N] [--size H W]
    python scripts/export_onnx.py WEIGHTS [-opt FILE] -o FILE.safetensors [--fp16]

An ONNX model takes pictures of any size, float32 RGB in [0, 1]. A network that computes in windows, such as SwinIR,
needs --size; its model takes one picture of that size. A model is kept only if onnxruntime computes the same as torch
with it, at three sizes or at the one given. Safetensors can be used without the option file and the experiment folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pdan_plugin  # noqa: F401  (registers PDAN and DRN, and repairs the toolbox so that it imports)
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.weights.network_export import export_network


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'weights',
        type=Path,
        metavar='WEIGHTS',
        help='trained weights: .pth, .safetensors, or pdan_small, which comes with this package',
    )
    parser.add_argument(
        '-opt', type=Path, metavar='FILE', help='the option file of the training (default: the one in its folder)'
    )
    parser.add_argument(
        '-o', '--output', type=Path, required=True, metavar='FILE', help='FILE.onnx or FILE.safetensors'
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
    return parser


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    size = None if args.size is None else (args.size[0], args.size[1])
    settings = {'float16': args.fp16, 'opset': args.opset, 'size': size, 'param_key': args.param_key}
    print(export_network(args.weights, args.output, args.opt, **settings))


if __name__ == '__main__':
    sys.exit(main())
