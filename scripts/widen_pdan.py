#!/usr/bin/env python
"""Gives a trained PDAN more channels: the wider network starts where the narrower one ended.

    python scripts/widen_pdan.py WEIGHTS TARGET.safetensors --num-feat 48

WEIGHTS is a file, or the name of weights in the package. The wider network computes the same pictures. Its new channels
have random weights of their own, and the old channels do not read them yet; training joins them (Net2Net, Chen et al.
2016, has the idea). Use TARGET as `path: pretrain_network_g` of a run whose `network_g` has the new `num_feat`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.commands.argument_types import whole_number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError
from pdan_plugin.weights.trained_network import load_recorded_network, save_trained_network


def widened(network: PDAN, options: dict[str, object], num_feat: int) -> PDAN:
    """A PDAN with ``num_feat`` channels and the function of ``network``, without the deblurring branch.

    Args:
        options: The constructor's arguments for ``network``.

    Raises:
        ValueError: ``num_feat`` is not a multiple of the network's ``squeeze_factor``.
    """
    wide = PDAN(**{**options, 'num_feat': num_feat, 'deblur_branch': False})  # pyright: ignore[reportArgumentType]
    levels = len(network.fused_groups)
    with torch.no_grad():
        trained = network.state_dict()
        for name, weight in wide.state_dict().items():
            if name == 'fuse.weight':  # its input is the channels of one level after another
                _grow(
                    weight.unflatten(1, (levels, -1)).transpose(1, 2),
                    trained[name].unflatten(1, (levels, -1)).transpose(1, 2),
                )
            else:
                _grow(weight, trained[name])
    return wide


def _grow(weight: Tensor, trained: Tensor) -> None:
    """Writes trained weights (out, in, ...) or (out,) over the first channels; none of these reads a new channel."""
    old_out = weight[: trained.shape[0]]
    if weight.dim() > 1:
        old_out[:, trained.shape[1] :] = 0
        old_out = old_out[:, : trained.shape[1]]
    old_out.copy_(trained)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', metavar='WEIGHTS', type=Path, help='of a PDAN')
    parser.add_argument('target', metavar='TARGET', type=Path, help='the safetensors file to write')
    parser.add_argument(
        '--num-feat', type=whole_number(1), required=True, metavar='N', help='channels of the wider network'
    )
    return parser


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    if args.target.suffix != '.safetensors':
        raise RequestError(f'{args.target}: expected a file name that ends in .safetensors.')
    if args.target.exists():
        raise RequestError(f'{args.target} exists already; choose another name, or remove it.')
    network, record = load_recorded_network(args.weights)
    if not isinstance(network, PDAN):
        raise RequestError(f'{args.weights} are weights of {record.options["type"]}; expected a PDAN.')
    options = {key: value for key, value in record.options.items() if key != 'type'}
    if args.num_feat <= network.conv_first.out_channels:
        raise RequestError(
            f'--num-feat {args.num_feat}: the network has {network.conv_first.out_channels} already; give more.'
        )
    torch.manual_seed(0)
    try:
        wide = widened(network, options, args.num_feat)
    except ValueError as error:
        raise RequestError(f'--num-feat: {error}') from error
    save_trained_network(wide, replace(record, options={**record.options, 'num_feat': args.num_feat}), args.target)
    print(f'{args.target}: {sum(value.numel() for value in wide.parameters()) / 1e6:.2f}M parameters')


if __name__ == '__main__':
    sys.exit(main())
