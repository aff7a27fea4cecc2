"""What a network asks of a tile, found by trial: sizes it takes, its scale, and how much of a border it spoils."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.shared_pooling import SharedPooling, count_global_poolings
from pdan_plugin.restoration.tiling import blending_zone

TOLERANCE = 0.25 / 255  # what a seam may show, of the range [0, 1]: half of what rounding to 8 bit does to a pixel

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_FACTORS = {1: (17, 19), 2: (11, 13), 4: (5, 7)}  # primes: of no multiple but the one that is tried
_CHANNELS = (3, 1, 4)
_STRIPS = (160, 320, 640)  # pixels: the length of what the border is looked for on
_STRIP_HEIGHT = 24


@dataclass(frozen=True)
class NetworkShape:
    """What a network takes and gives.

    Attributes:
        channels: Of the input.
        scale: Of the result's height and width to the input's.
        multiple: Heights and widths must be multiples of it.
        global_poolings: How many times it pools over the whole picture.
    """

    channels: int
    scale: int
    multiple: int
    global_poolings: int


@dataclass(frozen=True)
class Reach:
    """How far an artificial border is felt.

    Attributes:
        overlap: Pixels two tiles must share so that, blended, they equal the whole to within :data:`TOLERANCE`.
        grid: Tiles must begin at multiples of it.
        is_bounded: False where no distance was enough in a strip of 640 pixels: the network looks at all of a picture
            in a way that tiles cannot share.
    """

    overlap: int
    grid: int
    is_bounded: bool


def network_shape(restore: Callable[[Tensor], Tensor], network: nn.Module) -> NetworkShape:
    """Tries a network on small inputs of its first convolution's channels: which multiple of sizes it takes.

    The multiples tried are the powers of two up to 64, and ``window_size`` where a module has such an attribute; the
    inputs are prime multiples, so that the smallest is found. About 300 pixels are computed for most networks.

    Raises:
        RequestError: none of them worked; the message has the network's own.
    """
    complaint: Exception | None = None
    for multiple in _candidates(network):
        for channels in _channels(network):
            height, width = (multiple * factor for factor in _FACTORS[min(multiple, 4)])
            batch = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
            try:
                output = restore(batch)
                scale = output.shape[-2] // height
                if output.dim() == 4 and scale and output.shape[-2:] == (scale * height, scale * width):
                    return NetworkShape(channels, scale, multiple, count_global_poolings(restore, batch))
            except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
                complaint = error
    said = f' The last complaint was: {complaint}' if complaint is not None else ''
    raise RequestError(
        f'{type(network).__name__} takes no single picture (1, c, h, w) of any size tried, or gives none that is a '
        f'whole number of times as large.{said}'
    )


def measure_reach(restore: Callable[[Tensor], Tensor], network: nn.Module, shape: NetworkShape) -> Reach:
    """Measures on a strip of a synthetic picture how far from a cut a network's result differs from the uncut one's.

    The picture is dead leaves (overlapping grey-level rectangles of all sizes, the simplest model of photographs; Lee,
    Mumford and Huang 2001) with some noise. A deep network's theoretical field is hundreds of pixels, what is felt of
    it much less, and only this matters to a tile. The overlap is the smallest for which the blend of two such borders
    keeps below the tolerance. Global poolings are those of the uncut strip in both.

    A cut that is no multiple of a network's windows or strides changes pixels at any distance; multiples are tried
    from small to large until the difference dies away, then longer strips.

    Args:
        restore: The network in float32: in bfloat16 the rounding would be larger than what is looked for.
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
            cut = multiple * _odd(math.ceil(length * 0.4 / multiple))
            if cut > strip.shape[-1] * 0.8:
                continue
            part = pooling.restore(restore, strip[..., cut:].contiguous())
            overlap = _overlap(_difference(whole[..., cut * shape.scale :], part, shape.scale), multiple)
            if overlap is not None:
                return Reach(overlap, multiple, True)
    return Reach(math.ceil(_STRIPS[0] / 4 / shape.multiple) * shape.multiple, shape.multiple, False)


def dead_leaves(channels: int, height: int, width: int) -> Tensor:
    """A picture (1, channels, height, width) of random rectangles and light noise, in [0, 1]; always the same."""
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
    """The largest difference at each input pixel's distance from the cut, made to fall with the distance."""
    by_column = (whole - part).abs().amax(dim=(0, 1, 2)).float().cpu()
    by_pixel = by_column.view(-1, scale).amax(dim=1)
    return by_pixel.flip(0).cummax(0).values.flip(0)


def _overlap(difference: Tensor, multiple: int) -> int | None:
    # the last eighth is near the strip's own end, and a difference that is there does not die away
    length = len(difference) * 7 // 8
    for overlap in range(multiple, length, multiple):
        zone = blending_zone(overlap)
        start = (overlap - zone) // 2
        blended = difference[start : start + zone] * ((torch.arange(zone) + 0.5) / zone)
        if difference[start + zone] <= TOLERANCE and float((blended + blended.flip(0)).max()) <= TOLERANCE:
            return overlap
    return None


def _candidates(network: nn.Module) -> list[int]:
    found = [getattr(module, 'window_size', None) for module in network.modules()]
    windows = {math.lcm(*window) if isinstance(window, (tuple, list)) else window for window in found}
    windows = {window for window in windows if isinstance(window, int) and window > 0}
    return sorted({*_MULTIPLES, *windows, *([math.lcm(*windows), 2 * max(windows)] if windows else [])})


def _channels(network: nn.Module) -> list[int]:
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    # a network that shuffles pixels to channels first has another number there
    return [first.in_channels] if first is not None and first.in_channels in _CHANNELS else list(_CHANNELS)


def _odd(number: int) -> int:
    return number if number % 2 else number + 1
