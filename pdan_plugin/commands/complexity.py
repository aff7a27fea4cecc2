#!/usr/bin/env python
"""Parameters and multiply-accumulates of the networks compared in PDAN's paper, counted by torch.

python scripts/complexity.py [--size 320x180] [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pdan_plugin  # noqa: F401  (registers PDAN and DRN, and repairs the toolbox so that it imports)

from basicsr.archs import build_network  # isort: skip

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


def measure(network: nn.Module, width: int, height: int, **call: bool) -> tuple[int, int]:
    """(parameters, multiply-accumulates of one forward pass)."""
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, height, width, device='meta'), **call)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', default='320x180', metavar='WxH', help='input size (default: %(default)s)')
    parser.add_argument('--json', action='store_true', help='print one JSON object instead of a table')
    arguments = parser.parse_args()
    try:
        width, height = (int(part) for part in arguments.size.split('x'))
    except ValueError:
        parser.error(f'--size: expected WIDTHxHEIGHT such as 320x180, got {arguments.size}')

    # On the meta device nothing is computed: both numbers depend only on shapes.
    rows = {}
    for name, (options, call) in NETWORKS.items():
        with torch.device('meta'):
            rows[name] = measure(build_network(options), width, height, **call)
    if arguments.json:
        print(json.dumps({name: {'parameters': p, 'macs': m} for name, (p, m) in rows.items()}))
        return
    print(f'{"network":<16}{"parameters":>14}{"":>10}{f"MACs at {width}x{height}":>22}')
    for name, (parameters, macs) in rows.items():
        print(f'{name:<16}{parameters:>14,}{parameters / 1e6:>9.2f}M{macs / 1e12:>21.4f}T')


if __name__ == '__main__':
    main()
