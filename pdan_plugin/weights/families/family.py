"""A family of networks: which tensors show it, and which arguments of its constructor they show."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]


class NotThisFamily(Exception):
    """Weights have the characteristic names of a family, but are not of it; the message gives the reason."""


@dataclass(frozen=True)
class Assumed:
    """The value of an argument that no tensor shows.

    Attributes:
        value: The usual one, which is the constructor's default where it has one.
        others: Other usual ones. They are tried if the first gives no picture.
    """

    value: Any
    others: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Family:
    """A kind of network that is recognised by its tensors.

    Attributes:
        name: Its name in the arch registry.
        names: Names of tensors that all weights of the family have. The first one also shows where the weights begin:
            what stands before it in a name is the prefix of a wrapper.
        options: Returns the arguments of the constructor, in the types of JSON, so that they compare equal to stored
            ones. Those that the tensors do not show are :class:`Assumed`. May raise :class:`NotThisFamily`, and a
            KeyError for a missing tensor.
        renamed: The weights under the names that ``names`` and ``options`` know.
    """

    name: str
    names: tuple[str, ...]
    options: Callable[[State], dict[str, Any]]
    renamed: Callable[[State], State] = lambda state: state


def count(state: State, before: str, after: str) -> int:
    """How many numbers stand between two parts of the names: ``count(state, 'body.', '.conv.weight')``."""
    pattern = re.compile(rf'{re.escape(before)}(\d+){re.escape(after)}')
    return len({match[1] for name in state if (match := pattern.fullmatch(name))})


def shuffle_scale(state: State, num_feat: int) -> int:
    """The scale of a pixel-shuffle tail: a power of two in steps of two, or 3 in one step.

    Raises:
        NotThisFamily: The convolutions are not those of such a tail.
    """
    steps = [state[f'upsample.{2 * step}.weight'] for step in range(count(state, 'upsample.', '.weight'))]
    factors = [math.isqrt(step.shape[0] // num_feat) for step in steps]
    if any(factor not in (2, 3) for factor in factors):
        raise NotThisFamily(f'upsample enlarges by {factors}, not by steps of 2 or one step of 3')
    return math.prod(factors)


def usual_range(num_in_ch: int) -> dict[str, Any]:
    """``img_range`` and ``rgb_mean``: those of DIV2K on [0, 255], or the mean of its channels for each channel."""
    mean = [0.4488, 0.4371, 0.4040] if num_in_ch == 3 else [0.43] * num_in_ch
    return {'img_range': Assumed(255.0, (1.0,)), 'rgb_mean': Assumed(mean)}


def usual_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the usual value of each that is :class:`Assumed`."""
    return {name: value.value if isinstance(value, Assumed) else value for name, value in options.items()}
