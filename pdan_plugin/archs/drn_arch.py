"""DRN: the dual regression network, a baseline in PDAN's paper.

Source: "Closed-loop Matters: Dual Regression Networks for Single Image Super-Resolution", CVPR 2020. Each dual
network, which maps HR back to LR, is a :class:`DownBlock` and is used only in training (``DualRegressionModel``). The
weights that the authors released load directly, see :meth:`DRN.own_names`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdan_plugin.archs.rcan_layers import RCAB, Upsample


class DownBlock(nn.Sequential):
    """Halves the size: stride-2 convolution, LeakyReLU, convolution, both without bias."""

    def __init__(self, in_channels: int, middle_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, middle_channels, 3, stride=2, padding=1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(middle_channels, out_channels, 3, padding=1, bias=False),
        )


class DRN(nn.Module):
    """A U-shaped network on the bicubic enlargement; its decoder predicts an image at every scale.

    DRN-S is the default (4.80M parameters at 4x); DRN-L is ``num_feat=20, num_block=40`` (9.83M).

    Args:
        num_feat: channels at full size. There are log2(upscale) smaller levels; each has twice the channels of the one
            before.
        num_block: RCABs before each doubling of the size.
        squeeze_factor: reduction inside the RCABs.
        upscale: a power of two.
        img_range: the network computes on (x - rgb_mean) * img_range.
        rgb_mean: the mean of each channel, in [0, 1]. A loaded weights file replaces it with the mean of its training.

    Raises:
        ValueError: ``upscale`` is not a power of two above 1; ``squeeze_factor`` leaves a block without channels;
            ``num_in_ch``, ``num_out_ch`` and the length of ``rgb_mean`` differ.

    >>> results = DRN(num_block=1)(torch.rand(1, 3, 12, 16), return_all=True)
    >>> [tuple(result.shape) for result in results]
    [(1, 3, 12, 16), (1, 3, 24, 32), (1, 3, 48, 64)]
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
        narrowest = num_feat * 2 ** min(levels, 2)
        if not 1 <= squeeze_factor <= narrowest:
            raise ValueError(
                f'squeeze_factor: expected 1 to {narrowest}, the channels of a block, got {squeeze_factor}.'
            )
        if not num_in_ch == num_out_ch == len(rgb_mean):
            raise ValueError(
                'num_in_ch, num_out_ch and the length of rgb_mean must be the same number, got '
                f'{num_in_ch}, {num_out_ch}, {len(rgb_mean)}.'
            )
        self.upscale = upscale
        self.img_range = img_range
        self.mean: Tensor
        self.register_buffer('mean', torch.tensor(rgb_mean).view(1, -1, 1, 1))

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
            channels = 2 * narrowed  # the encoder's features of the same size are appended
            self.tail.append(nn.Conv2d(channels, num_out_ch, 3, padding=1))

    @overload
    def forward(self, x: Tensor, return_all: Literal[False] = False) -> Tensor: ...

    @overload
    def forward(self, x: Tensor, return_all: Literal[True]) -> list[Tensor]: ...

    def forward(self, x: Tensor, return_all: bool = False) -> Tensor | list[Tensor]:
        """LR images (b, c, h, w) in [0, 1] -> HR (b, c, s*h, s*w).

        With ``return_all``, a list of the outputs at every scale, from the size of LR to that of HR.

        Raises:
            ValueError: the number of channels is wrong.
        """
        if x.dim() != 4 or x.shape[1] != self.mean.shape[1]:
            raise ValueError(f'DRN takes (b, {self.mean.shape[1]}, h, w), got {tuple(x.shape)}.')
        size = (
            self.upscale * x.shape[2],
            self.upscale * x.shape[3],
        )  # with scale_factor, an exported model would accept one size only
        enlarged = functional.interpolate(x, size, mode='bicubic', align_corners=False)
        features = self.head((enlarged - self.mean) * self.img_range)
        encoded: list[Tensor] = []
        for down in self.down:
            encoded.append(features)
            features = down(features)

        outputs: list[Tensor] = [self._to_image(0, features)] if return_all else []
        for index, up in enumerate(self.up):
            features = torch.cat((up(features), encoded.pop()), dim=1)
            if return_all or index == len(self.up) - 1:
                outputs.append(self._to_image(index + 1, features))
        return outputs if return_all else outputs[-1]

    def _to_image(self, scale_index: int, features: Tensor) -> Tensor:
        return self.tail[scale_index](features) / self.img_range + self.mean

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """Like torch's method, but also accepts the weights that the authors released."""
        return super().load_state_dict(self.own_names(state_dict), strict=strict, assign=assign)

    def own_names(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Renames weights of the authors (guoyongcs/DRN) to this network's names; weights of this project stay.

        The authors' network computes on [0, 255] and shifts by the mean with two 1x1 convolutions, which were trained
        too. They are merged into ``mean``, the head and the tails. The network computes the same result, except for
        rounding, also at the picture's borders.
        """
        weights = dict(state_dict)
        if any(name.startswith('up_blocks.') for name in weights):
            weights = self._without_shifts({own_name(name): value for name, value in weights.items()})
        weights.setdefault('mean', self.mean)  # older files hold no mean: the constructor's is used
        return weights

    def _without_shifts(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        mean = self.mean.detach().cpu().double().flatten()
        identity = torch.eye(len(mean), dtype=torch.float64)

        def shift(name: str, sign: int) -> tuple[Tensor, Tensor]:
            matrix = weights.pop(f'{name}.weight', identity)
            offset = weights.pop(f'{name}.bias', sign * _AUTHORS_RANGE * mean)
            return matrix.double().flatten(1), offset.double()

        matrix, offset = shift('sub_mean', -1)
        # matrix @ (255 x) + offset = matrix @ (255 (x - mean)): the zero padding of the head's input stays zero
        solved = cast('Tensor', torch.linalg.solve(matrix, offset))  # pyright: ignore[reportUnknownMemberType]
        mean = -solved / _AUTHORS_RANGE
        back, back_offset = shift('add_mean', 1)
        for name, value in weights.items():
            exact = value.double()
            if name == 'head.weight':
                exact = torch.einsum('oikl,ij->ojkl', exact, matrix) * (_AUTHORS_RANGE / self.img_range)
            elif re.fullmatch(r'tail\.\d+\.weight', name):
                exact = torch.einsum('ij,jckl->ickl', back, exact) * (self.img_range / _AUTHORS_RANGE)
            elif re.fullmatch(r'tail\.\d+\.bias', name):
                exact = ((back @ exact + back_offset) / _AUTHORS_RANGE - mean) * self.img_range
            else:
                continue
            weights[name] = exact.to(value.dtype)
        weights['mean'] = mean.to(self.mean.dtype).view_as(self.mean)
        return weights


_AUTHORS_RANGE = 255.0
# From the names of the authors' network to those of this one; head and tail have the same names.
AUTHORS_KEY_MAP: tuple[tuple[str, str], ...] = (
    (r'^up_blocks\.', 'up.'),
    (r'^(up\.\d+\.\d+)\.body\.3\.conv_du\.0\.', r'\1.rcab.3.attention.1.'),
    (r'^(up\.\d+\.\d+)\.body\.3\.conv_du\.2\.', r'\1.rcab.3.attention.3.'),
    (r'^(up\.\d+\.\d+)\.body\.', r'\1.rcab.'),
    (r'^(down\.\d+)\.dual_module\.0\.0\.', r'\1.0.'),
    (r'^(down\.\d+)\.dual_module\.1\.', r'\1.2.'),
)


def own_name(name: str) -> str:
    """The name that a tensor of the authors' network has here (:data:`AUTHORS_KEY_MAP`); other names stay."""
    for pattern, replacement in AUTHORS_KEY_MAP:
        name = re.sub(pattern, replacement, name)
    return name
