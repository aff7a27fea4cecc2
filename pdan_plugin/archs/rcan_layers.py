"""RCAN's attention block and upsampling, which PDAN and DRN share; they need only torch.

Source: "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018; the upsampling is
"Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR
2016. The weights have the same names as in BasicSR's ``RCAB`` and ``Upsample``, so weights files fit both.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


class Upsample(nn.Sequential):
    """Enlarges features in steps: a convolution to r * r times the channels, then a pixel shuffle by r.

    A power of two takes log2(scale) steps with r = 2; a scale of 3 takes one step with r = 3.

    Shape:
        (b, num_feat, h, w) -> (b, num_feat, scale * h, scale * w)

    Raises:
        ValueError: ``scale`` is neither 3 nor a power of two.
    """

    def __init__(self, scale: int, num_feat: int) -> None:
        if scale == 3:
            factors = [3]
        elif scale > 0 and math.log2(scale).is_integer():
            factors = [2] * int(math.log2(scale))
        else:
            raise ValueError(f'scale: expected 3 or a power of two, got {scale}.')
        layers: list[nn.Module] = []
        for factor in factors:
            layers += [nn.Conv2d(num_feat, factor * factor * num_feat, 3, padding=1), nn.PixelShuffle(factor)]
        super().__init__(*layers)


class ChannelAttention(nn.Module):
    """Multiplies each channel by a gate in (0, 1), computed from the means of all channels.

    Shape:
        (b, num_feat, h, w) -> (b, num_feat, h, w)
    """

    def __init__(self, num_feat: int, squeeze_factor: int = 16) -> None:
        super().__init__()
        squeezed = num_feat // squeeze_factor
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features * self.attention(features)


class RCAB(nn.Module):
    """Residual channel attention block: x + attention(conv(ReLU(conv(x)))).

    Shape:
        (b, num_feat, h, w) -> (b, num_feat, h, w)
    """

    def __init__(self, num_feat: int, squeeze_factor: int = 16) -> None:
        super().__init__()
        self.rcab = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            ChannelAttention(num_feat, squeeze_factor),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.rcab(x) + x
