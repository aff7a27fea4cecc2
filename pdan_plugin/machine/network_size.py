"""The size of a network: parameters, multiply-accumulates, and values that an optimizer keeps per parameter."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_SMALL = 48  # pixels: side of the crop that is measured if the requested size cannot be


@dataclass(frozen=True)
class Measured:
    """A quantity, and whether it was scaled up by area from a small crop instead of measured at the requested size."""

    value: int
    is_scaled: bool


def count_parameters(network: nn.Module) -> int:
    """Number of parameters including frozen ones, without buffers."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(network: nn.Module, shape: Sequence[int], **words: bool) -> Measured | None:
    """Multiply-accumulates of one forward pass for an input of a shape (including the batch).

    Counted by torch's FlopCounterMode: convolutions and matrix products; one multiply-accumulate is two of its
    operations. Counted without computing if the network allows it. None if the network cannot take such an input.

    Args:
        words: Further arguments of ``forward``.
    """

    def count(target: nn.Module, inputs: Tensor) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            target.eval()(inputs, **words)
        return counter.get_total_flops() // 2

    return _measure(count, network, shape)


def optimizer_values(model: Any, section: Mapping[str, Any]) -> int:
    """Number of values that an optimizer keeps per parameter (Adam: 2), found by making one step."""
    parameter = nn.Parameter(torch.zeros(4))
    words = {word: copy.deepcopy(value) for word, value in section.items() if word not in ('type', 'lr')}
    optimizer = model.get_optimizer(object.__new__(model), section['type'], [parameter], float(section['lr']), **words)
    parameter.grad = torch.ones(4)
    optimizer.step()
    state = optimizer.state[parameter]
    return sum(torch.is_tensor(value) and value.numel() == parameter.numel() for value in state.values())


def _measure(count: Any, network: nn.Module, shape: Sequence[int]) -> Measured | None:
    """``count(network, inputs)`` on the meta device (shapes without values), else on a small crop and scaled up."""
    try:
        return Measured(count(copy.deepcopy(network).to('meta'), torch.empty(*shape, device='meta')), False)
    except Exception:  # an operation has no shape rule or needs values: use the crop
        pass
    small = [1, *shape[1:-2], min(_SMALL, shape[-2]), min(_SMALL, shape[-1])]
    try:
        value = count(network, torch.rand(*small))
    except Exception:  # the network needs an input other than one picture (a GAN's latent code, a list)
        return None
    return Measured(int(value * math.prod(shape) / math.prod(small)), small != list(shape))
