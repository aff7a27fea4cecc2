"""Checks the values of the toolbox's PerceptualLoss, which fails only after it has loaded a VGG network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.archs.vgg_arch import NAMES, insert_bn
from basicsr.losses.basic_loss import PerceptualLoss

from pdan_plugin.option_schema.constructors import Problem, is_number, wrong_value
from pdan_plugin.option_schema.spelling import did_you_mean

_CRITERIA = ('l1', 'fro')  # `l2` of the toolbox names a class that torch does not have


def check_perceptual_loss(loss: Any, values: Mapping[str, Any], key: str) -> list[Problem]:
    """Checks network, layers and criterion; of another class than the toolbox's, nothing.

    Args:
        loss: The class of ``values['type']``.
        values: The section; its keywords are checked elsewhere.
        key: Its dotted key.
    """
    if loss is not PerceptualLoss:
        return []
    problems = []
    criterion = values.get('criterion', 'l1')
    if criterion not in _CRITERIA:
        problems.append(Problem(f'{key}.criterion', wrong_value(criterion, ' or '.join(map(repr, _CRITERIA)))))
    network, layers = values.get('vgg_type', 'vgg19'), values.get('layer_weights')
    networks = [*NAMES, *(f'{name}_bn' for name in NAMES)]
    if network not in networks:
        problems.append(Problem(f'{key}.vgg_type', wrong_value(network, f'one of {", ".join(networks)}')))
    if 'layer_weights' not in values:
        return problems
    if not isinstance(layers, Mapping) or not layers:
        expected = 'a section of layers and their weights, such as {conv5_4: 1}'
        return [*problems, Problem(f'{key}.layer_weights', wrong_value(layers, expected))]
    names = NAMES.get(str(network).removesuffix('_bn'), [])
    names = insert_bn(names) if str(network).endswith('_bn') else names
    for layer, weight in layers.items():
        if names and layer not in names:
            text = f'{network} has no such layer{did_you_mean(str(layer), names)}; it has {names[0]} to {names[-1]}'
            problems.append(Problem(f'{key}.layer_weights.{layer}', text))
        if not is_number(weight):
            problems.append(Problem(f'{key}.layer_weights.{layer}', wrong_value(weight, 'a number')))
    return problems
