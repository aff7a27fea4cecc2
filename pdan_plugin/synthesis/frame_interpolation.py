"""Frames between frames: the methods by name.

========= ====================================================================================================
flow      Optical flow in both directions, no weights: the default (`flow_interpolation`).
rife      The RIFE network, of an optional package that ships its weights (`rife_interpolation`).
sepconv   Adaptive separable convolution, the paper's method, with the user's weights (`sepconv_interpolation`).
========= ====================================================================================================

`register` adds another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pdan_plugin.errors import RequestError


class Interpolator(Protocol):
    """A method that is ready to work. The same two frames give the same bytes, whatever was made before.

    Attributes:
        name: What it is registered as.
        settings: What a record must hold for the work to be repeated; JSON can write it.
    """

    name: str
    settings: dict[str, Any]

    def between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """The ``count - 1`` frames at 1/count, 2/count, ... of the way, one at a time and in order.

        Args:
            first: uint8 RGB (h, w, 3), as everything that comes.
            second: Of the same size.
            count: Of intervals between the two.

        Raises:
            RequestError: The method cannot make so many, or not of this size.
        """
        ...


Factory = Callable[[Path | None, str], Interpolator]

_METHODS: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorates what makes a method's `Interpolator` from a weights file (or None) and a device's name."""

    def registered(factory: Factory) -> Factory:
        if name in _METHODS:
            raise ValueError(f'an interpolation method called {name!r} is there already')
        _METHODS[name] = factory
        return factory

    return registered


def interpolators() -> tuple[str, ...]:
    """Names of all methods, the default first."""
    return tuple(_METHODS)


def interpolator(name: str, *, weights: Path | None = None, device: str = 'cpu') -> Interpolator:
    """The method of that name.

    Args:
        weights: Its weights, where it takes a file.
        device: Where its network computes, such as ``cuda``.

    Raises:
        RequestError: No method of that name; its package or weights are missing or do not fit; it has no use for what
            was given; the device is not there.
    """
    if name not in _METHODS:
        raise RequestError(f'no interpolation method is called {name!r}; there are {", ".join(_METHODS)}')
    return _METHODS[name](weights, device)


# Each method is imported when it is asked for: nobody waits for one that is not used.


@register('flow')
def _flow(weights: Path | None, device: str) -> Interpolator:
    if weights is not None:
        raise RequestError(f'the interpolator flow has no weights; leave {weights} out, or choose another method')
    if device != 'cpu':
        raise RequestError(f'the interpolator flow computes on the CPU alone, got the device {device!r}')
    from pdan_plugin.synthesis.flow_interpolation import FlowInterpolation

    return FlowInterpolation()


@register('rife')
def _rife(weights: Path | None, device: str) -> Interpolator:
    from pdan_plugin.synthesis.rife_interpolation import RifeInterpolation

    return RifeInterpolation(weights, checked_device(device))


@register('sepconv')
def _sepconv(weights: Path | None, device: str) -> Interpolator:
    from pdan_plugin.synthesis.sepconv_interpolation import SepconvInterpolation

    return SepconvInterpolation(weights, checked_device(device))


def checked_device(name: str) -> str:
    """The name, if torch can compute there.

    Raises:
        RequestError: It cannot.
    """
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f'device {name!r} cannot be used: {reason}') from error
    return name
