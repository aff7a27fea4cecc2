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
    compute about 300 pixels.

    Args:
        restore: Computes the network: (1, c, h, w) -> (1, c, scale * h, scale * w).
        channels: The numbers of channels to try; None for those of the network's first layer, or 3, 1 and 4.

    Raises:
        RequestError: no input worked; the message includes the network's last error.
        MemoryError, RuntimeError: out of memory, as raised by the network.
    """
    complaint: Exception | None = None
    for multiple in candidate_multiples(network):
        for tried in channels or _channels(network):
            batch = trial_batch(tried, multiple)
            height, width = batch.shape[-2:]
            try:
                output = restore(batch)
                scale = output.shape[-2] // height
                if output.dim() == 4 and scale and output.shape[-2:] == (scale * height, scale * width):
                    return AcceptedSizes(tried, scale, multiple)
            except Exception as error:  # a network of another project may raise any
                if is_surely_out_of_memory(error):
                    raise
                complaint = error
    reason = f' Its last error was: {complaint}' if complaint is not None else ''
    raise RequestError(
        f'{type(network).__name__} failed on every size tried of a picture (1, c, h, w), or its result is not a '
        f'whole multiple of the input size.{reason}'
    ) from complaint


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
    height, width = {1: (17, 19), 2: (11, 13)}.get(multiple, (5, 7) if multiple <= 32 else (2, 3))
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, multiple * height, multiple * width, generator=generator)


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
