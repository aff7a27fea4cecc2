"""Converts a trained network to float16, except the operations that decide the grey levels."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


def float16_network(network: nn.Module, example: Tensor) -> nn.Module:
    """Copies a network and lets the copy compute in float16 from its first layer to the one before the last.

    Input and output are float32. So are the operations before the first layer (mean, range), the last layer, and the
    operations after it (range, mean, long skip), because float16 resolves only a quarter of a grey level. All other
    layers have float16 parameters and cast their inputs.

    Args:
        network: in eval mode, in float32, with parameters within float16's range.
        example: an input batch; running it shows the order of the layers.
    """
    converted = copy.deepcopy(network)
    layers = [module for module in converted.modules() if any(True for _ in module.parameters(recurse=False))]
    last = _last_run(converted, layers, example)
    for layer in layers:
        if layer is last:
            layer.register_forward_pre_hook(_to_float32, with_kwargs=True)
            continue
        for parameter in layer.parameters(recurse=False):
            parameter.data = parameter.data.half()
        layer.register_forward_pre_hook(_to_float16, with_kwargs=True)
    return converted


def _last_run(network: nn.Module, layers: list[nn.Module], example: Tensor) -> nn.Module:
    """The last layer with parameters in the forward pass."""
    order: list[nn.Module] = []
    handles = [layer.register_forward_pre_hook(lambda module, _: order.append(module)) for layer in layers]
    with torch.no_grad():
        network(example)
    for handle in handles:
        handle.remove()
    return order[-1]


def _to_float16(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return _cast(inputs, named, torch.float32, torch.float16)


def _to_float32(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return _cast(inputs, named, torch.float16, torch.float32)


def _cast(
    inputs: tuple[Any, ...], named: dict[str, Any], source: torch.dtype, target: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def cast(value: Any) -> Any:
        return value.to(target) if isinstance(value, Tensor) and value.dtype == source else value

    return tuple(cast(each) for each in inputs), {name: cast(each) for name, each in named.items()}
