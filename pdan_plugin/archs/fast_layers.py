"""Three pieces of PDAN whose plain form costs far more time or memory than they need.

Each computes what the plain form computes; which one saves what is said at each. Figures are of a two-core CPU with
bfloat16 matrix instructions, (4, 64, 64, 64) features in the channels-last layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Gradients = tuple[Tensor | None, ...]


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
        ctx.save_for_backward(branch, channel_gate, spatial_gate)
        return _sum_of_gates(branch, channel_gate, spatial_gate).mul_(branch).add_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        branch, channel_gate, spatial_gate = ctx.saved_tensors
        gradient = gradients[0]
        of_gate = gradient * branch
        return (
            gradient,
            _sum_of_gates(branch, channel_gate, spatial_gate).mul_(gradient),
            of_gate.sum(dim=(2, 3), keepdim=True),
            of_gate.sum(dim=1, keepdim=True),
        )


def _sum_of_gates(branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
    return torch.add(channel_gate, spatial_gate, out=torch.empty_like(branch))


def gated_residual(x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
    """x + branch * (channel_gate + spatial_gate).

    torch lays the sum of a gate a channel and a gate a pixel out channels-first, whatever the features' layout, and
    every operation of two layouts after it is ten times as slow. Here the sum takes the layout of the features, and
    is made again in the backward pass instead of being kept for it.

    Shape:
        x, branch (b, c, h, w), channel_gate (b, c, 1, 1), spatial_gate (b, 1, h, w), of one type -> (b, c, h, w)
    """
    return _GatedResidual.apply(x, branch, channel_gate, spatial_gate)  # pyright: ignore[reportReturnType]


def convolved_and_shuffled(convolution: nn.Conv2d, features: Tensor, factor: int) -> Tensor:
    """``pixel_shuffle(convolution(features), factor)``, (b, c, factor * h, factor * w): the same numbers.

    In the channels-last layout, a pixel's sub-pixels are computed one after the other, each with all its channels,
    which is another order of the convolution's weights. The shuffle then moves whole rows of channels: 5 times as fast
    forward and 10 times backward.
    """
    if not features.is_contiguous(memory_format=torch.channels_last):
        return functional.pixel_shuffle(convolution(features), factor)
    channels = convolution.out_channels // factor**2
    weight = convolution.weight.unflatten(0, (channels, factor**2)).transpose(0, 1).flatten(0, 1)
    bias = None
    if convolution.bias is not None:
        bias = convolution.bias.view(channels, factor**2).t().flatten()
    mixed = functional.conv2d(features, weight, bias, convolution.stride, convolution.padding)
    b, _, h, w = mixed.shape
    pixels = mixed.permute(0, 2, 3, 1).reshape(b, h, w, factor, factor, channels)
    return pixels.transpose(2, 3).reshape(b, h * factor, w * factor, channels).permute(0, 3, 1, 2)


class _Float32Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.padding = padding
        return functional.conv2d(features.float(), weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:
        features, weight = ctx.saved_tensors
        gradient = gradients[0]
        of_features, of_weight, _ = torch.ops.aten.convolution_backward(
            gradient.to(features.dtype), features, weight.to(features.dtype), None,
            [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, [True, True, False],
        )  # fmt: skip
        return of_features, of_weight.to(weight.dtype), gradient.sum(dim=(0, 2, 3)), None


def float32_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A convolution under autocast whose result is float32, (b, c, h, w), where it is the picture.

    A bfloat16 picture cannot hold 256 grey levels. Only the result is float32: the gradients are computed in autocast's
    type, like those of the layers around, and the features are kept for the backward pass as they came.
    """
    device = features.device.type
    if device == 'meta' or not torch.is_autocast_enabled(device):
        return convolution(features)
    with torch.autocast(device, enabled=False):
        return _Float32Convolution.apply(  # pyright: ignore[reportReturnType]
            features, convolution.weight, convolution.bias, convolution.padding
        )
