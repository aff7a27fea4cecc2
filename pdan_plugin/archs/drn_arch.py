"""DRN: the dual regression network PDAN's paper compares itself with.

Source: "Closed-loop Matters: Dual Regression Networks for Single Image Super-Resolution", CVPR 2020. The networks
that map back from HR to LR belong to training and are not part of this file.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.archs.rcan_arch import RCAB
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional


class DownBlock(nn.Sequential):
    """Halves the size: stride-2 convolution, LeakyReLU, convolution, both without bias."""

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, middle_channels, 3, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(middle_channels, out_channels, 3, padding=1, bias=False),
        )


@ARCH_REGISTRY.register()  # pyright: ignore[reportOptionalCall]
class DRN(nn.Module):
    """A U-shaped network over the bicubic enlargement that predicts every scale on its way up.

    DRN-S is the default (4.80M parameters at 4x); DRN-L is ``num_feat=20, num_block=40`` (9.83M).

    Args:
        num_feat: channels at full size; doubled at each of the log2(upscale) levels below.
        num_block: RCABs before each doubling of the size.
        squeeze_factor: reduction inside the RCABs.
        upscale: a power of two.
        img_range: the network computes on (x - rgb_mean) * img_range.
        rgb_mean: a mean a channel, in [0, 1].

    Raises:
        ValueError: ``upscale`` is not a power of two above one.
    """

    def __init__(
        self,
        *,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 16,
        num_block: int = 30,
        squeeze_factor: int = 16,
        upscale: int = 4,
        img_range: float = 255.0,
        rgb_mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
    ) -> None:
        super().__init__()
        levels = int(math.log2(upscale)) if upscale > 1 else 0
        if levels == 0 or 2**levels != upscale:
            raise ValueError(f'upscale: expected a power of two above 1, got {upscale}.')
        self.upscale = upscale
        self.img_range = img_range
        self.mean: Tensor
        self.register_buffer('mean', torch.tensor(rgb_mean).view(1, -1, 1, 1), persistent=False)

        self.head = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.down = nn.ModuleList(
            DownBlock(num_feat * 2**level, num_feat * 2**level, num_feat * 2 ** (level + 1)) for level in range(levels)
        )
        self.up = nn.ModuleList()
        bottom = num_feat * 2**levels
        self.tail = nn.ModuleList([nn.Conv2d(bottom, num_out_ch, 3, padding=1)])
        channels = bottom
        for level in reversed(range(levels)):
            narrowed = num_feat * 2**level
            self.up.append(
                nn.Sequential(
                    *(RCAB(channels, squeeze_factor) for _ in range(num_block)),
                    Upsample(2, channels),
                    nn.Conv2d(channels, narrowed, 1),
                )
            )
            channels = 2 * narrowed  # the encoder's feature of that size is concatenated
            self.tail.append(nn.Conv2d(channels, num_out_ch, 3, padding=1))

    @overload
    def forward(self, x: Tensor, return_all: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Tensor, return_all: Literal[True]) -> list[Tensor]: ...

    def forward(self, x: Tensor, return_all: bool = False) -> Tensor | list[Tensor]:
        """LR images (b, c, h, w) in [0, 1] -> HR (b, c, s*h, s*w).

        With ``return_all`` the output of every scale, from LR's own size to HR's.
        """
        enlarged = functional.interpolate(x, scale_factor=self.upscale, mode='bicubic', align_corners=False)
        features = self.head((enlarged - self.mean) * self.img_range)
        encoded = []
        for down in self.down:
            encoded.append(features)
            features = down(features)

        outputs = [self._to_image(0, features)] if return_all else []
        for index, up in enumerate(self.up):
            features = torch.cat((up(features), encoded.pop()), dim=1)
            if return_all or index == len(self.up) - 1:
                outputs.append(self._to_image(index + 1, features))
        return outputs if return_all else outputs[-1]

    def _to_image(self, scale_index: int, features: Tensor) -> Tensor:
        return self.tail[scale_index](features) / self.img_range + self.mean
