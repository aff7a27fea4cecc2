"""Measures what tiles a network needs: accepted sizes, scale, and how far an artificial border changes the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pdan_plugin.machine.accepted_sizes import AcceptedSizes, accepted_sizes, candidate_multiples, trial_batch
from pdan_plugin.restoration.shared_pooling import SharedPooling, count_global_poolings
from pdan_plugin.restoration.tiling import blending_zone

TOLERANCE = 0.25 / 255  # largest visible seam, in [0, 1]: half of the largest error of rounding to 8 bits

_STRIPS = (160, 320, 640)  # pixels: lengths of the strip on which the border's effect is measured
_STRIP_HEIGHT = 24
_DARK = 0.05


@dataclass(frozen=True)
class NetworkShape(AcceptedSizes):
    """The input and output sizes of a network.

    Attributes:
        global_poolings: Number of poolings over the whole picture.
    """

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
    """Runs a network on small inputs to find the channels and sizes that it accepts, and counts its global poolings.

    Raises:
        RequestError: as :func:`~pdan_plugin.machine.accepted_sizes.accepted_sizes`.
    """
    accepted = accepted_sizes(restore, network)
    poolings = count_global_poolings(restore, trial_batch(accepted.channels, accepted.multiple))
    return NetworkShape(accepted.channels, accepted.scale, accepted.multiple, poolings)


def measure_reach(
    restore: Callable[[Tensor], Tensor], network: nn.Module, shape: NetworkShape, window: int = 0
) -> Reach:
    """Measures how far from a cut the result of a network differs from the result without the cut.

    The test picture is a strip of dead leaves (overlapping rectangles of all sizes, the simplest model of photographs;
    Lee, Mumford and Huang 2001) with some noise. The theoretical receptive field of a deep network is hundreds of
    pixels, but the measurable effect reaches much less far. The overlap is the smallest for which the blend of two such
    borders stays below the tolerance. The cut strip uses the global poolings of the uncut one.

    A cut that is not a multiple of the network's windows or strides changes pixels at any distance. Multiples are
    therefore tried from small to large until the difference vanishes, then longer strips.

    Args:
        restore: The network in float32, because rounding to bfloat16 exceeds the tolerance.
        window: Side of the windows over which the network pools; strips are at least four times as long.
    """
    multiples = [m for m in candidate_multiples(network) if m % shape.multiple == 0] or [shape.multiple]
    for length in (*(each for each in _STRIPS if each >= 4 * window), *((4 * window, 8 * window) if window else ())):
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

            def difference(picture: Tensor, whole: Tensor, cut: int = cut, pooling: SharedPooling = pooling) -> Tensor:
                part = pooling.restore(restore, picture[..., cut:].contiguous())
                return _difference(whole[..., cut * shape.scale :], part, shape.scale)

            found = difference(strip, whole)
            for picture in _with_contrast(strip, cut) if window else ():
                found = torch.maximum(found, difference(picture, pooling.restore(restore, picture)))
            overlap = _overlap(found, multiple)
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


def _with_contrast(strip: Tensor, cut: int) -> list[Tensor]:
    """The strip with a dark part at one side of the cut: in the strip itself all windows have nearly the same mean."""
    left, right = strip.clone(), strip.clone()
    left[..., :cut] *= _DARK
    right[..., cut:] *= _DARK
    return [left, right]


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
