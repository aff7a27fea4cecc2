"""`basicsr complexity`: counts parameters and multiply-accumulates of the networks compared in PDAN's paper."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pdan_plugin.commands.argument_types import picture_size

RCAN = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_group': 10, 'num_block': 20}
EDSR = {
    'type': 'EDSR',
    'num_in_ch': 3,
    'num_out_ch': 3,
    'num_feat': 256,
    'num_block': 32,
    'upscale': 4,
    'res_scale': 0.1,
}
# Name: the network's options, and the arguments of forward that give all its published outputs.
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    'EDSR-L': (EDSR, {}),
    'RCAN': (RCAN | {'num_feat': 64}, {}),
    'RCAN-128': (RCAN | {'num_feat': 128}, {}),
    'DRN-S': ({'type': 'DRN', 'num_feat': 16, 'num_block': 30}, {'return_all': True}),
    'DRN-L': ({'type': 'DRN', 'num_feat': 20, 'num_block': 40}, {'return_all': True}),
    'PDAN': ({'type': 'PDAN', 'deblur_branch': False}, {}),
    'PDAN, training': ({'type': 'PDAN'}, {'return_lr': True}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; the size is parsed to (width, height)."""
    parser.description = (
        "Parameters and multiply-accumulates of the networks compared in PDAN's paper, counted by torch."
    )
    parser.add_argument(
        '--size', type=picture_size(1), default=(320, 180), metavar='WxH', help='input size (default: 320x180)'
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object instead of a table')


def run(arguments: argparse.Namespace) -> int:
    """Prints the table and returns the exit status."""
    import torch

    from pdan_plugin.machine.network_size import count_parameters, multiply_accumulates
    from pdan_plugin.option_schema.network_section import build_network

    width, height = arguments.size
    # On the meta device nothing is computed: both numbers depend only on shapes.
    rows: dict[str, tuple[int, int]] = {}
    for name, (options, call) in NETWORKS.items():
        with torch.device('meta'):
            network = build_network(options, name)
        counted = multiply_accumulates(network, (1, 3, height, width), **call)
        assert counted is not None, 'each of them takes any picture'
        rows[name] = count_parameters(network), counted.value
    if arguments.json:
        print(json.dumps({name: {'parameters': p, 'macs': m} for name, (p, m) in rows.items()}))
        return 0
    print(f'{"network":<16}{"parameters":>14}{"":>10}{f"MACs at {width}x{height}":>22}')
    for name, (parameters, macs) in rows.items():
        print(f'{name:<16}{parameters:>14,}{parameters / 1e6:>9.2f}M{macs / 1e12:>21.4f}T')
    return 0
