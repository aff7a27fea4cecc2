"""Builds the network a weights file belongs to, ready for use."""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.option_file import read_option_file
from pdan_plugin.restoration.weights_file import read_any_weights


def load_trained_network(
    weights: Path, option_file: Path | None = None, device: torch.device | str = 'cpu'
) -> nn.Module:
    """The network in eval mode on ``device``, with its moving-average weights where the file has them.

    A weights file does not say which network it is for: ``network_g`` is read from ``option_file``, else from the
    option file the trainer left in the experiment folder (``experiments/NAME/*.yml`` beside
    ``experiments/NAME/models/``). A deblurring branch, which only training needs, is not built.

    Raises:
        RequestError: no option file, one without ``network_g``, or weights that do not fit; the message names the file.
    """
    option_file = option_file or _option_file_of(weights)
    options = read_option_file(option_file)
    if not isinstance(options.get('network_g'), dict) or 'type' not in options['network_g']:
        raise RequestError(
            f'{option_file}: network_g with a type is missing; it says which network the weights are for.'
        )
    network_opt = dict(options['network_g'])
    if 'deblur_branch' in inspect.signature(ARCH_REGISTRY.get(network_opt['type'])).parameters:
        network_opt['deblur_branch'] = False
    network = build_network(network_opt)
    state = read_any_weights(str(weights))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise RequestError(
            f'{weights} does not fit network_g of {option_file}:\n{error}\n'
            'Give the option file the weights were trained with: -opt FILE.'
        ) from error
    return network.eval().requires_grad_(False).to(device)


def _option_file_of(weights: Path) -> Path:
    folder = weights.resolve().parent.parent
    found = sorted(folder.glob('*.yml'))
    if weights.resolve().parent.name != 'models' or not found:
        raise RequestError(
            f'{weights} lies in no experiment folder, so the network it is for is unknown. Give the option file it '
            'was trained with: -opt FILE.'
        )
    if len(found) > 1:
        raise RequestError(
            f'{folder} holds several option files ({", ".join(file.name for file in found)}). Say which one '
            f'belongs to {weights.name}: -opt FILE.'
        )
    return found[0]
