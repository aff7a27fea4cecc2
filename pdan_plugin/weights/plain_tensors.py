"""Tensors that a network cannot take as weights: quantised, sparse, without values, or of another kind of number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pdan_plugin.errors import RequestError


def refuse_other_kinds(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str) -> None:
    """Raises a RequestError for the first tensor that is not plain numbers of the network's kind.

    Torch copies whole numbers into a parameter as they are, without the scale of their quantisation, and of complex
    numbers the real part.

    Args:
        own: The state of the network they are for, as far as it is known.
        source: The file, for the message.
    """
    for name, value in weights.items():
        kind = _other_kind(value, own.get(name))
        if kind is not None:
            raise RequestError(
                f'{source}: {name} is {kind}. Expected the weights as they were before they were quantised or packed, '
                'in float32, bfloat16 or float16: give that file.'
            )


def _other_kind(value: Tensor, wanted: Tensor | None) -> str | None:
    if value.is_quantized:
        return f'quantised ({value.dtype})'
    if value.is_meta:
        return 'a tensor without values (of the device meta)'
    if value.layout != torch.strided:
        return f'not stored densely ({value.layout})'
    if wanted is not None and wanted.is_floating_point() and not value.is_floating_point():
        return f'{value.dtype}, and the network has {wanted.dtype} there'
    return None
