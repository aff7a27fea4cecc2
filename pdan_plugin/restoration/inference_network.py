"""A trained network made ready for use on a device: its layout, its number format, its compiled form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pdan_plugin.precision import autocast, full_float32

Restoring = Callable[[Tensor], Tensor]


def inference_network(
    network: nn.Module, device: torch.device, *, precision: str = 'fp32', compiled: bool = False
) -> Restoring:
    """A function that restores a batch: (b, c, h, w) float32, [0, 1], on any device -> (b, c, s * h, s * w) float32 on
    ``device``, not clipped.

    The network itself is put into eval mode and onto the device.
    """
    network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # pyright: ignore
    if compiled:
        network.compile()

    def restore(batch: Tensor) -> Tensor:
        batch = batch.to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), full_float32(), autocast(device, precision):
            return network(batch).float()

    return restore
