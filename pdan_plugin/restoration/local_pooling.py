"""Replaces a network's poolings over the whole picture by poolings over windows, at test time.

A network with channel attention is trained on crops, whose means vary more than those of whole pictures. At test, means
over the whole picture differ from what it has seen. Here every pixel gets the mean over a window of about the size of a
crop around it. Source: Chu et al., "Improving Image Restoration by Revisiting Global Information Aggregation", ECCV
2022 (TLC). As there, windows at a border are moved inwards, so that they always have their full size.

Works for any network whose poolings :mod:`~pdan_plugin.restoration.shared_pooling` detects. Most layers that follow a
pooling take a map as they take one value (1x1 convolutions, activations, products), so a pooled value becomes a map.
Layers that do not, such as ``view(b, c)`` and a linear layer, run once for each pixel, by ``torch.vmap``. Which of the
two works is found by trials on a small picture. A pooling for which neither works stays global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from pdan_plugin.machine.working_memory import is_out_of_memory
from pdan_plugin.restoration.shared_pooling import count_global_poolings, pooled_kind

Restore = Callable[[Tensor], Tensor]

_TRIAL_SIDE = 24  # pixels of the picture on which the poolings are tried; windows are a third of it
_LARGEST_GROWTH = 16  # times: a result for each pixel that grows more is a map of the whole picture for each pixel


class LocalPooling:
    """A network whose global poolings are replaced by local ones.

    Args:
        restore: Computes the network, (b, c, h, w) -> (b, c, s * h, s * w).
        size: Side of the windows in pixels of the input. A window as large as the picture is the global pooling.
        channels, multiple: What the network takes; for the trials.
        exact: The network in float32, for the trials; None if ``restore`` is that. The rounding of other formats would
            hide whether two ways agree.

    Attributes:
        count: Number of poolings that were found.
        left: Number of those that stay global.
    """

    def __init__(
        self, restore: Restore, size: int, *, channels: int, multiple: int, exact: Restore | None = None
    ) -> None:
        self._restore, self._size = restore, size
        side = -(-_TRIAL_SIDE // multiple) * multiple
        trial = torch.rand(1, channels, side, side + multiple, generator=torch.Generator().manual_seed(0))
        exact = exact or restore
        self.count = count_global_poolings(exact, trial)
        self._as_maps, self._by_pixel = _ways(exact, trial, self.count)
        self.left = self.count - len(self._as_maps | self._by_pixel)

    def wrapped(self, restore: Restore | None = None, size: int | None = None) -> Restore:
        """The network with local poolings.

        Args:
            restore: The same network in another form; None for this one.
            size: Side of the windows; None for the given one.
        """
        plain, side = restore or self._restore, size or self._size

        def run(batch: Tensor) -> Tensor:
            with _Windows(batch.shape, side, self._as_maps, self._by_pixel):
                return plain(batch)

        return run


def _ways(restore: Restore, trial: Tensor, count: int) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers of the poolings that may become maps, and of those whose layers must run for each pixel."""
    every = frozenset(range(count))
    expected = restore(trial).shape

    def tried(as_maps: Iterable[int], by_pixel: Iterable[int]) -> Tensor | None:
        try:
            with _Windows(trial.shape, _TRIAL_SIDE // 3, frozenset(as_maps), frozenset(by_pixel)):
                result = restore(trial)
        except Exception as error:  # a network of another project may raise any
            if is_out_of_memory(error):
                raise
            return None
        return result if result.shape == expected else None

    in_maps, in_pixels = tried(every, ()), tried((), every)
    if in_maps is not None and (in_pixels is None or _agree(in_maps, in_pixels)):
        return every, frozenset()
    if in_pixels is not None:
        return frozenset(), every
    as_maps: set[int] = set()
    by_pixel: set[int] = set()
    for number in range(count):
        if tried(as_maps, by_pixel | {number}) is not None:
            by_pixel.add(number)
        elif tried(as_maps | {number}, by_pixel) is not None:
            as_maps.add(number)
    return frozenset(as_maps), frozenset(by_pixel)


def _agree(one: Tensor, other: Tensor) -> bool:
    """Whether two results differ by rounding alone; not if a layer mixes the pixels of a map, as a 3x3 convolution."""
    return float((one - other).abs().max()) <= 1e-3 * float(other.abs().max())


class _Windows(TorchFunctionMode):
    """While active, poolings over the whole picture are pooled over windows."""

    def __init__(self, shape: torch.Size, size: int, as_maps: frozenset[int], by_pixel: frozenset[int]) -> None:
        super().__init__()
        self._shape, self._size, self._as_maps, self._by_pixel = shape, size, as_maps, by_pixel
        self._number = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._by_pixel and any(isinstance(each, _ForEachPixel) for each in tree_flatten((args, kwargs))[0]):
            return _ForEachPixel.call(func, args, kwargs)
        kind = pooled_kind(func, args, kwargs, self._shape)
        if kind is None:
            return func(*args, **kwargs)
        number, self._number = self._number, self._number + 1
        if number not in self._as_maps and number not in self._by_pixel:
            return func(*args, **kwargs)
        features: Tensor = args[0]
        sides = [self._window(whole, side) for whole, side in zip(self._shape[-2:], features.shape[-2:], strict=True)]
        pooled = features
        for axis, side in zip((-1, -2), reversed(sides), strict=True):
            pooled = _pooled(pooled, axis, side, kind)
        pooled = pooled.to(features.dtype)
        is_whole = all(side >= length for side, length in zip(sides, features.shape[-2:], strict=True))
        keeps_axes = kwargs.get('keepdim', len(args) > 2 and args[2]) or func.__name__.startswith('adaptive')
        if is_whole:
            pooled = pooled[..., :1, :1]
            return pooled if keeps_axes else pooled[..., 0, 0]
        if number in self._by_pixel:
            return _ForEachPixel.of(pooled, keeps_axes=bool(keeps_axes))
        if not keeps_axes:
            raise _NotLocal('the pooled value has no axes for a map')
        return pooled

    def _window(self, whole: int, side: int) -> int:
        """The side of a window on a feature map; maps at a half or a quarter of the size are rounded up to it."""
        factor = side / whole
        near = round(factor) if factor >= 1 else 1 / round(1 / factor)
        if abs(side - whole * near) < 2:
            factor = near
        return max(1, round(self._size * factor))


def _pooled(features: Tensor, axis: int, side: int, kind: str) -> Tensor:
    """Pools along one axis over windows that are moved inwards at its ends; the length stays. float32 for means."""
    length = features.shape[axis]
    if kind == 'max':
        if side >= length:
            return features.amax(axis, keepdim=True).expand_as(features)
        window = (side, 1) if axis == -2 else (1, side)
        inner = torch.nn.functional.max_pool2d(features, window, stride=1)
        return inner.index_select(axis, _starts(length, side, features.device))
    if side >= length:
        return features.mean(axis, keepdim=True, dtype=torch.float32).expand(features.shape)
    sums = features.cumsum(axis, dtype=torch.float32)
    sums = torch.cat([torch.zeros_like(sums.narrow(axis, 0, 1)), sums], axis)
    inner = (sums.narrow(axis, side, length - side + 1) - sums.narrow(axis, 0, length - side + 1)).div_(side)
    return inner.index_select(axis, _starts(length, side, features.device))


def _starts(length: int, side: int, device: torch.device) -> Tensor:
    """The first pixel of each pixel's window."""
    return (torch.arange(length, device=device) - (side - 1) // 2).clamp_(0, length - side)


class _NotLocal(TypeError):
    """A function cannot be run for each pixel."""


class _ForEachPixel(Tensor):
    """One pooled value, seen from outside, that has another value at each pixel.

    Functions run on it once for each pixel, by ``torch.vmap``, until it meets a map of that size.

    Attributes:
        values: (h * w, *shape).
        size: (h, w).
    """

    values: Tensor
    size_of_map: tuple[int, int]

    @staticmethod
    def wrap(values: Tensor, size: tuple[int, int]) -> _ForEachPixel:
        made = Tensor._make_wrapper_subclass(_ForEachPixel, values.shape[1:], dtype=values.dtype, device=values.device)
        made.values, made.size_of_map = values, size
        return made

    @staticmethod
    def of(pooled: Tensor, *, keeps_axes: bool) -> _ForEachPixel:
        """From a map (..., h, w) of pooled values."""
        height, width = pooled.shape[-2:]
        values = pooled.flatten(-2).movedim(-1, 0).contiguous()
        return _ForEachPixel.wrap(values[..., None, None] if keeps_axes else values, (height, width))

    def as_map(self) -> Tensor:
        """(..., h, w), if the last two axes are those of a pooled value."""
        if self.values.shape[-2:] != (1, 1):
            raise _NotLocal(f'a map meets {tuple(self.values.shape[1:])}, which has no axes for a map')
        return self.values[..., 0, 0].movedim(0, -1).unflatten(-1, self.size_of_map)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise _NotLocal(f'{func} sees a value for each pixel')

    @staticmethod
    def call(func: Any, args: Any, kwargs: Any) -> Any:
        """Calls a torch function of which at least one argument is a value for each pixel."""
        if func.__name__ == '__get__' or func.__name__ in ('size', 'dim', 'numel', 'ndimension', '__len__'):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        flat, form = tree_flatten((args, kwargs))
        own = [each for each in flat if isinstance(each, _ForEachPixel)]
        size = own[0].size_of_map
        if any(each.size_of_map != size for each in own):
            raise _NotLocal('poolings of maps of different sizes meet')
        maps = [each for each in flat if isinstance(each, Tensor) and not isinstance(each, _ForEachPixel)]
        if any(each.dim() > 2 and each.shape[-2:] == size for each in maps) or _is_spread(func, flat, size):
            flat = [each.as_map() if isinstance(each, _ForEachPixel) else each for each in flat]
            args, kwargs = tree_unflatten(flat, form)
            return func(*args, **kwargs)
        places = [number for number, each in enumerate(flat) if isinstance(each, _ForEachPixel)]

        def run(*values: Tensor) -> Any:
            filled = list(flat)
            for place, value in zip(places, values, strict=True):
                filled[place] = value
            args, kwargs = tree_unflatten(filled, form)
            return func(*args, **kwargs)

        made = torch.vmap(run)(*(each.values for each in own))
        most = _LARGEST_GROWTH * max(each.numel() for each in own)
        parts, kind = tree_flatten(made)
        if any(part.numel() > most * size[0] * size[1] for part in parts):
            raise _NotLocal(f'{func.__name__} makes a map for each pixel')
        return tree_unflatten([_ForEachPixel.wrap(part, size) for part in parts], kind)


def _is_spread(func: Any, arguments: list[Any], size: tuple[int, int]) -> bool:
    """Whether a function spreads a pooled value over the map by its size, as ``y.expand(-1, -1, h, w)``."""
    numbers = [each for each in arguments if isinstance(each, int)]
    return func.__name__ in ('expand', 'repeat', 'interpolate', 'upsample') and tuple(numbers[-2:]) == size
