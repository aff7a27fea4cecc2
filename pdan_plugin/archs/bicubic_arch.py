"""Bicubic enlargement as a network without weights, so that it is scored by the same test as every other row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdan_plugin.synthesis.bicubic import imresize


class Bicubic(nn.Module):
    """MATLAB's ``imresize(x, upscale, 'bicubic')``: Keys's cubic with a = -0.5, the border's pixels mirrored.

    It has no parameters: it is tested without ``path: pretrain_network_g`` and cannot be trained. It computes in
    float32 under autocast too. Values a little outside of the input's range occur at contours, as with any network.

    Shape:
        (b, c, h, w) -> (b, c, upscale * h, upscale * w)

    Args:
        upscale: a whole number, 1 or more.

    Raises:
        ValueError: ``upscale`` is none.
    """

    def __init__(self, *, upscale: int = 4) -> None:
        super().__init__()
        if upscale != int(upscale) or upscale < 1:
            raise ValueError(f'upscale: expected a whole number of 1 or more, got {upscale}.')
        self.upscale = int(upscale)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # it would round the matrix products
            return imresize(x, self.upscale)
