"""Measures what tiles a network needs: accepted sizes, scale, and how far an artificial border changes the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.shared_pooling import SharedPooling, count_global_poolings
from pdan_plugin.restoration.tiling import blending_zone

TOLERANCE = 0.25 / 255  # largest visible seam, in [0, 1]: half of the largest error of rounding to 8 bits

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_WINDOW_NAMES = ('window', 'win_size', 'split_size')  # parts of the names under which layers keep the side of a window
_LARGEST_WINDOW = 256  # pixels
_LARGEST_BELOW = 128  # pixels: a window at a lower resolution is tried up to this multiple
_CHANNELS = (3, 1, 4)
_STRIPS = (160, 320, 640)  # pixels: lengths of the strip on which the border's effect is measured
_STRIP_HEIGHT = 24


@dataclass(frozen=True)
class NetworkShape:
    """The input and output sizes of a network.

    Attributes:
        channels: Channels of the input.
        scale: Height and width of the result, divided by those of the input.
        multiple: Heights and widths of the input must be multiples of this.
        global_poolings: Number of poolings over the whole picture.
    """

    channels: int
    scale: int
    multiple: int
    global_poolings: int


@dataclass(frozen=True)
class Reach:
    """How far an artificial border changes a network's result.

    Attributes:
        overlap: Pixels that two tiles must share so that the blended result equals the whole picture's to within
            :data:`TOLERANCE`.
        grid: Tiles must start at multiples of this.
        is_bounded: False if no overlap sufficed in a strip of 640 pixels: every result pixel depends on the whole
            picture, and not through a global pooling that tiles can share.
    """

    overlap: int
    grid: int
    is_bounded: bool


def network_shape(restore: Callable[[Tensor], Tensor], network: nn.Module) -> NetworkShape:
    """Runs a network on small inputs to find the channels and sizes that it accepts.

    Sizes are tried in multiples of the powers of two up to 64, of the windows of any module (attributes such as
    ``window_size``), and of the windows at a half, a quarter and an eighth of the resolution. The smallest accepted one
    is found. Most networks compute about 300 pixels.

    Raises:
        RequestError: no input worked; the message includes the network's last error.
    """
    complaint: Exception | None = None
    for multiple in _candidates(network):
        for channels in _channels(network):
            height, width = (multiple * factor for factor in _factors(multiple))
            batch = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
            try:
                output = restore(batch)
                scale = output.shape[-2] // height
                if output.dim() == 4 and scale and output.shape[-2:] == (scale * height, scale * width):
                    return NetworkShape(channels, scale, multiple, count_global_poolings(restore, batch))
            except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
                complaint = error
    reason = f' Its last error was: {complaint}' if complaint is not None else ''
    raise RequestError(
        f'{type(network).__name__} failed on every size tried of a picture (1, c, h, w), or its result is not a '
        f'whole multiple of the input size.{reason}'
    )


def measure_reach(restore: Callable[[Tensor], Tensor], network: nn.Module, shape: NetworkShape) -> Reach:
    """Measures how far from a cut the result of a network differs from the result without the cut.

    The test picture is a strip of dead leaves (overlapping rectangles of all sizes, the simplest model of photographs;
    Lee, Mumford and Huang 2001) with some noise. The theoretical receptive field of a deep network is hundreds of
    pixels, but the measurable effect reaches much less far. The overlap is the smallest for which the blend of two such
    borders stays below the tolerance. The cut strip uses the global poolings of the uncut one.

    A cut that is not a multiple of the network's windows or strides changes pixels at any distance. Multiples are
    therefore tried from small to large until the difference vanishes, then longer strips.

    Args:
        restore: The network in float32, because rounding to bfloat16 exceeds the tolerance.
    """
    multiples = [m for m in _candidates(network) if m % shape.multiple == 0] or [shape.multiple]
    for length in _STRIPS:
        height = math.ceil(_STRIP_HEIGHT / shape.multiple) * shape.multiple
        strip = dead_leaves(shape.channels, height, math.ceil(length / multiples[-1]) * multiples[-1])
        everything = (slice(0, strip.shape[-2]), slice(0, strip.shape[-1]))
        pooling = SharedPooling()
        if shape.global_poolings:
            pooling.take(restore, strip, everything, shape.global_poolings)
            pooling.use_taken()
        whole = pooling.restore(restore, strip)
        for multiple in multiples:
            cut = _cut(length, multiple, multiples)
            if cut > strip.shape[-1] * 0.8:
                continue
            part = pooling.restore(restore, strip[..., cut:].contiguous())
            overlap = _overlap(_difference(whole[..., cut * shape.scale :], part, shape.scale), multiple)
            if overlap is not None:
                return Reach(overlap, multiple, True)
    return Reach(math.ceil(_STRIPS[0] / 4 / shape.multiple) * shape.multiple, shape.multiple, False)


def dead_leaves(channels: int, height: int, width: int) -> Tensor:
    """A picture (1, channels, height, width) of random rectangles and light noise, in [0, 1], with a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.full((1, channels, height, width), 0.5)
    for _ in range(height * width // 12):
        side = torch.rand(2, generator=generator).pow(3) * 24 + 1
        top, left = (torch.rand(2, generator=generator) * torch.tensor([height, width])).long().tolist()
        colour = torch.rand(channels, 1, 1, generator=generator)
        picture[..., top : top + int(side[0]), left : left + int(side[1])] = colour
    noise = torch.randn(picture.shape, generator=generator) * 0.02
    return (picture + noise).clamp(0, 1)


def _difference(whole: Tensor, part: Tensor, scale: int) -> Tensor:
    """For each distance from the cut in input pixels, the largest difference at that distance or farther."""
    by_column = (whole - part).abs().amax(dim=(0, 1, 2)).float().cpu()
    by_pixel = by_column.view(-1, scale).amax(dim=1)
    return by_pixel.flip(0).cummax(0).values.flip(0)


def _overlap(difference: Tensor, multiple: int) -> int | None:
    # the last eighth is skipped: it is near the end of the strip, where differences do not vanish
    length = len(difference) * 7 // 8
    for overlap in range(multiple, length, multiple):
        zone = blending_zone(overlap)
        start = (overlap - zone) // 2
        blended = difference[start : start + zone] * ((torch.arange(zone) + 0.5) / zone)
        if difference[start + zone] <= TOLERANCE and float((blended + blended.flip(0)).max()) <= TOLERANCE:
            return overlap
    return None


def _factors(multiple: int) -> tuple[int, int]:
    """Height and width of a trial in units of a multiple: without a common factor, so that a network that needs a
    larger multiple refuses it; small for large multiples, because time grows with the area."""
    return {1: (17, 19), 2: (11, 13)}.get(multiple, (5, 7) if multiple <= 32 else (2, 3))


def _candidates(network: nn.Module) -> list[int]:
    windows = {side for module in network.modules() for side in _windows(module)}
    together = {math.lcm(*windows), 2 * max(windows)} if windows else set()
    lower = {side * factor for side in windows for factor in (2, 4, 8) if side * factor <= _LARGEST_BELOW}
    return sorted({*_MULTIPLES, *windows, *lower, *(each for each in together if each <= 2 * _LARGEST_WINDOW)})


def _windows(module: nn.Module) -> set[int]:
    """The sides of a module's windows: of its attributes named so, numbers or lists of numbers, also nested ones."""
    attributes = {**vars(type(module)), **vars(module)}
    found = [value for name, value in attributes.items() if any(part in name.lower() for part in _WINDOW_NAMES)]
    sides: set[int] = set()
    while found:
        value = found.pop()
        if isinstance(value, (tuple, list)):
            found += value
        elif isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_WINDOW:
            sides.add(value)
    return sides


def _channels(network: nn.Module) -> list[int]:
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    # a network that starts with a pixel unshuffle has more channels there than its input
    return [first.in_channels] if first is not None and first.in_channels in _CHANNELS else list(_CHANNELS)


def _cut(length: int, multiple: int, multiples: Sequence[int]) -> int:
    """A place near two fifths of the length that is a multiple of this number, and of none that does not divide it.

    The other factor is a prime, so that windows of which nothing is known do not start there by chance.
    """
    factor = math.ceil(length * 0.4 / multiple)
    while any(factor % divisor == 0 for divisor in range(2, math.isqrt(factor) + 1)) or any(
        multiple * factor % other == 0 and multiple % other for other in multiples
    ):
        factor += 1
    return multiple * factor
