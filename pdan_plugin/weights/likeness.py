"""Whether a network gives a picture: its result, made small again, compared with its input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ALIKE = 20.0  # dB; restoring networks have 30 or more, those with a wrong range or scale of residuals below 15
_SIDE = 24  # pixels, at least


def likeness(network: nn.Module, channels: int, multiple: int) -> float:
    """PSNR in dB between a small smooth picture and the network's result for it, averaged to the picture's size.

    Whatever a network restores, its result is much like its input when seen from far.

    Args:
        network: (1, channels, h, w) in [0, 1] -> (1, channels, scale * h, scale * w), for multiples of ``multiple``.
    """
    side = math.ceil(_SIDE / multiple) * multiple
    picture = _waves(channels, side)
    with torch.inference_mode():
        result = network(picture).float().clamp(0, 1)
    error = (functional.adaptive_avg_pool2d(result, side) - picture).square().mean().item()
    return -10 * math.log10(error + 1e-10) if math.isfinite(error) else -math.inf


def _waves(channels: int, side: int) -> Tensor:
    """(1, channels, side, side) in [0.1, 0.9]: a slow wave in another direction for each channel."""
    places = torch.linspace(0, 2 * math.pi, side)
    return torch.stack(
        [0.5 + 0.4 * torch.sin(places[:, None] * math.cos(turn) + places * math.sin(turn) + turn)
         for turn in (0.4 + 1.9 * channel for channel in range(channels))]
    )[None]  # fmt: skip
