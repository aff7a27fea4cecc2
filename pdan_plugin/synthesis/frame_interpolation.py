"""The methods of frame interpolation, by name.

========= ====================================================================================================
flow      Optical flow in both directions, no weights: the default (`flow_interpolation`).
rife      The RIFE network, from an optional package that ships its weights (`rife_interpolation`).
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
    """An interpolation method. Its result depends only on the two frames, not on earlier calls.

    Attributes:
        name: The registered name.
        settings: Everything a record needs to reproduce the frames; JSON values.
    """

    name: str
    settings: dict[str, Any]

    def between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """The ``count - 1`` frames at 1/count, 2/count, ... of the way, one at a time and in order.

        Args:
            first: uint8 RGB (h, w, 3).
            second: uint8 RGB of the same size.
            count: Number of intervals between the two frames.

        Returns:
            uint8 RGB frames of the same size.

        Raises:
            RequestError: The method does not support this count or this size.
        """
        ...


Factory = Callable[[Path | None, str], Interpolator]

_METHODS: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Decorator for a function that makes an `Interpolator` from a weights file (or None) and a device name."""

    def registered(factory: Factory) -> Factory:
        if name in _METHODS:
            raise ValueError(f'an interpolation method called {name!r} is already registered')
        _METHODS[name] = factory
        return factory

    return registered


def interpolators() -> tuple[str, ...]:
    """Names of all methods, the default first."""
    return tuple(_METHODS)


def interpolator(name: str, *, weights: Path | None = None, device: str = 'cpu') -> Interpolator:
    """The method of that name.

    Args:
        weights: Its weights file, if it takes one.
        device: The device of its network, such as ``cuda``.

    Raises:
        RequestError: No method of that name; its package or weights are missing or do not fit; it takes no weights or
            no such device; the device is not available.
    """
    if name not in _METHODS:
        raise RequestError(f'no interpolation method is called {name!r}; there are {", ".join(_METHODS)}')
    return _METHODS[name](weights, device)


# A method is imported only when it is used: some imports are slow.


@register('flow')
def _flow(weights: Path | None, device: str) -> Interpolator:
    if weights is not None:
        raise RequestError(f'the interpolator flow takes no weights; leave out {weights}, or choose another method')
    if device != 'cpu':
        raise RequestError(f'the interpolator flow runs only on the CPU, got the device {device!r}')
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
