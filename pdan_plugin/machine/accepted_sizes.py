"""Which input sizes a network accepts: found by running it on small inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.working_memory import is_surely_out_of_memory

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
# tried only where all others fail: 3, 5, 7 and 9 times a power of two, and larger powers
_FURTHER_MULTIPLES = sorted({odd * 2**power for odd in (1, 3, 5, 7, 9) for power in range(9) if odd * 2**power <= 256})
_WINDOW_NAMES = ('window', 'win_size', 'split_size')  # parts of the names under which layers keep the side of a window
_LARGEST_WINDOW = 256  # pixels
_LARGEST_BELOW = 128  # pixels: a window at a lower resolution is tried up to this multiple
_CHANNELS = (3, 1, 4)


@dataclass(frozen=True)
class AcceptedSizes:
    """The input and output sizes of a network.

    Attributes:
        channels: Channels of the input.
        scale: Height and width of the result, divided by those of the input.
        multiple: Heights and widths of the input must be multiples of this.
    """

    channels: int
    scale: int
    multiple: int


def accepted_sizes(
    restore: Callable[[Tensor], Tensor], network: nn.Module, channels: Sequence[int] | None = None
) -> AcceptedSizes:
    """Runs a network on small inputs to find the channels and sizes that it accepts.

    Sizes are tried in the multiples of :func:`candidate_multiples`. The smallest accepted one is found. Most networks
    compute about 300 pixels. If a network fails on all of them, further multiples up to 256 are tried.

    Args:
        restore: Computes the network: (1, c, h, w) -> (1, c, scale * h, scale * w).
        channels: The numbers of channels to try; None for those of the network's first layer, or 3, 1 and 4.

    Raises:
        RequestError: no input worked; the message includes the network's last error, and what to do.
        MemoryError, RuntimeError: out of memory, as raised by the network.
    """
    complaint: Exception | None = None
    first = candidate_multiples(network)
    further = [multiple for multiple in _FURTHER_MULTIPLES if multiple not in first]
    for multiple in (*first, *further):
        if multiple in further and complaint is None:
            break  # it takes these sizes; its results are no pictures
        for tried in channels or _channels(network):
            batch = trial_batch(tried, multiple)
            try:
                scale = _scale_of(restore(batch), batch)
                if scale:
                    return AcceptedSizes(tried, scale, multiple)
            except Exception as error:  # a network of another project may raise any
                if is_surely_out_of_memory(error):
                    raise
                complaint = error
    advice = ''
    if complaint is not None:
        advice = (
            f' Its last error was: {complaint}. Tried were sides that are multiples of powers of two up to 256, of '
            'these times 3, 5, 7 and 9, and of the windows that its modules name. If it needs multiples of another '
            f'number, give the network the attribute window_size = NUMBER (up to {_LARGEST_WINDOW}), or extend the '
            'picture in its forward and crop the result'
        )
    raise RequestError(
        f'{type(network).__name__} failed on every size tried of a picture (1, c, h, w), or its result is not a '
        f'whole multiple of the input size.{advice}'
    ) from complaint


def least_size(restore: Callable[[Tensor], Tensor], channels: int, multiple: int) -> int:
    """The smallest side of a square picture, a multiple of a number, with which a network works.

    It works from there on up to :func:`smallest_tried`. Networks have a smallest side if they extend their input by
    reflection, or make it smaller more often than it can be.

    Raises:
        MemoryError, RuntimeError: out of memory, as raised by the network.
    """
    low, high = 1, smallest_tried(multiple) // multiple
    while low < high:
        middle = (low + high) // 2
        batch = torch.rand(
            1, channels, middle * multiple, middle * multiple, generator=torch.Generator().manual_seed(0)
        )
        works = False
        try:
            works = _scale_of(restore(batch), batch) > 0
        except Exception as error:  # as above
            if is_surely_out_of_memory(error):
                raise
        low, high = (low, middle) if works else (middle + 1, high)
    return high * multiple


def smallest_tried(multiple: int) -> int:
    """The smaller side of :func:`trial_batch`: with larger pictures a network is known to work."""
    return multiple * _trial_sides(multiple)[0]


def _scale_of(output: Tensor, batch: Tensor) -> int:
    """The scale of a result; 0 if it is no picture of a whole multiple of the input's size."""
    height, width = batch.shape[-2:]
    scale = output.shape[-2] // height
    return scale if output.dim() == 4 and output.shape[-2:] == (scale * height, scale * width) else 0


def candidate_multiples(network: nn.Module) -> list[int]:
    """The powers of two up to 64, the windows of any module (attributes such as ``window_size``), and the windows at a
    half, a quarter and an eighth of the resolution; rising."""
    windows = windows_of(network)
    together: set[int] = {math.lcm(*windows), 2 * max(windows)} if windows else set()
    lower = {side * factor for side in windows for factor in (2, 4, 8) if side * factor <= _LARGEST_BELOW}
    return sorted({*_MULTIPLES, *windows, *lower, *(each for each in together if each <= 2 * _LARGEST_WINDOW)})


def windows_of(network: nn.Module) -> set[int]:
    """The sides of all windows of a network: of its modules' attributes named so, numbers or (nested) lists of them."""
    return {side for module in network.modules() for side in _windows(module)}


def trial_batch(channels: int, multiple: int) -> Tensor:
    """Noise (1, channels, h, w) in [0, 1], with a fixed seed, whose height and width are multiples of a number.

    They have no other factor in common, so that a network that needs a larger multiple refuses them; they are small
    for large multiples, because time grows with the area.
    """
    height, width = _trial_sides(multiple)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, multiple * height, multiple * width, generator=generator)


def _trial_sides(multiple: int) -> tuple[int, int]:
    return {1: (17, 19), 2: (11, 13)}.get(multiple, (5, 7) if multiple <= 32 else (2, 3))


def _windows(module: nn.Module) -> set[int]:
    attributes = {**vars(type(module)), **vars(module)}
    found = [value for name, value in attributes.items() if any(part in name.lower() for part in _WINDOW_NAMES)]
    sides: set[int] = set()
    while found:
        value = found.pop()
        if isinstance(value, (tuple, list)):
            found += value
        elif not isinstance(value, bool) and isinstance(value, Integral) and 0 < int(value) <= _LARGEST_WINDOW:
            sides.add(int(value))
    return sides


def _channels(network: nn.Module) -> list[int]:
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    # a network that starts with a pixel unshuffle has more channels there than its input
    return [first.in_channels] if first is not None and first.in_channels in _CHANNELS else list(_CHANNELS)
