"""A trained network made one that computes in float16, but for what decides the grey levels."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def float16_network(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network that computes in float16 between its first layer and its last.

    The picture comes and goes in float32. What is done to it before the first layer (the mean, the range), the last
    layer and what follows (range, mean, long skip) are in float32, because float16 holds a grey level only to a
    quarter. The parameters of all other layers are float16, and a layer casts what reaches it in another type.

    Args:
        network: in eval mode, in float32, its parameters within float16's range.
        example: a batch the network takes, which shows the order of its layers.
    """
    converted = copy.deepcopy(network)
    layers = [module for module in converted.modules() if any(True for _ in module.parameters(recurse=False))]
    last = _last_run(converted, layers, example)
    for layer in layers:
        if layer is last:
            layer.register_forward_pre_hook(_to_float32)
            continue
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.half()
        layer.register_forward_pre_hook(_to_float16)
    return converted


def _last_run(network: nn.Module, layers: list[nn.Module], example: Tensor) -> nn.Module:
    """The layer with parameters that the forward pass comes to last."""
    order: list[nn.Module] = []
    handles = [layer.register_forward_pre_hook(lambda module, _: order.append(module)) for layer in layers]
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    return order[-1]


def _to_float16(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.half() if _is_of(each, torch.float32) else each for each in inputs)


def _to_float32(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.float() if _is_of(each, torch.float16) else each for each in inputs)


def _is_of(value: Any, dtype: torch.dtype) -> bool:
    return isinstance(value, Tensor) and value.dtype == dtype
