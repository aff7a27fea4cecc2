"""Bicubic enlargement as a network without weights, so that the same test scores it like any other network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdan_plugin.synthesis.bicubic import imresize


class Bicubic(nn.Module):
    """MATLAB's ``imresize(x, upscale, 'bicubic')``: Keys's cubic with a = -0.5, mirrored at the border.

    It has no parameters: test it without ``path: pretrain_network_g``; it cannot be trained. It computes in float32,
    also under autocast. At contours the values may lie slightly outside the input's range.

    Shape:
        (b, c, h, w) -> (b, c, upscale * h, upscale * w)

    Args:
        upscale: a whole number, 1 or more.

    Raises:
        ValueError: ``upscale`` is not a whole number of 1 or more.

    >>> tuple(Bicubic(upscale=2)(torch.rand(1, 3, 4, 5)).shape)
    (1, 3, 8, 10)
    """

    def __init__(self, *, upscale: int = 4) -> None:
        super().__init__()
        if upscale != int(upscale) or upscale < 1:
            raise ValueError(f'upscale: expected a whole number of 1 or more, got {upscale}.')
        self.upscale = int(upscale)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # autocast would round the matrix products
            return imresize(x, self.upscale)
