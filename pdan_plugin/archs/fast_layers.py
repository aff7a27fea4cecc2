"""Pieces of PDAN whose plain form costs far more time or memory than they need.

Each computes what the plain form computes; which one saves what is said at each. Figures are of a two-core CPU with
bfloat16 matrix instructions and features in the channels-last layout: (4, 64, 64, 64) where training is meant,
(1, 128, 180, 320), on one core, where use is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import has_torch_function

Gradients = tuple[Tensor | None, ...]


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
        ctx.save_for_backward(branch, channel_gate, spatial_gate)
        gate = _sum_of_gates(branch, channel_gate, spatial_gate)
        return torch.addcmul(x, branch, gate, out=gate)

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
    """x + branch * (channel_gate + spatial_gate), rounded once.

    torch lays the sum of a gate a channel and a gate a pixel out channels-first, whatever the features' layout, and
    every operation of two layouts after it is ten times as slow. Here the sum takes the layout of the features, and
    is made again in the backward pass instead of being kept for it. In use the sum is made some rows at a time, which
    stay in the processor's cache, and ``branch`` becomes the result.

    Shape:
        x, branch (b, c, h, w), channel_gate (b, c, 1, 1), spatial_gate (b, 1, h, w), of one type -> (b, c, h, w)
    """
    if _pixels_are_rows(branch) and branch.device.type == 'cpu':
        return _gated_in_rows(x, branch, channel_gate, spatial_gate)
    return _GatedResidual.apply(x, branch, channel_gate, spatial_gate)  # pyright: ignore[reportReturnType]


_CACHED = 2**19  # numbers of a layer that stay in a core's cache: 1 MiB in bfloat16


def _gated_in_rows(x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
    b, c, h, w = branch.shape
    rows = max(1, _CACHED // (b * c * w))
    gates = torch.empty_like(branch[:, :, :rows])
    for top in range(0, h, rows):
        band = slice(top, top + rows)
        own = branch[:, :, band]
        gate = torch.add(channel_gate, spatial_gate[:, :, band], out=gates[:, :, : own.shape[2]])
        torch.addcmul(x[:, :, band], own, gate, out=own)
    return branch


def spatial_mean(features: Tensor) -> Tensor:
    """The mean over space, (b, c, h, w) -> (b, c, 1, 1).

    In use (no gradients) on a CPU it is a product with a row of ones, which bfloat16's matrix instructions sum in
    float32: 2 ms instead of 10. To a ``TorchFunctionMode`` it is the plain mean over both axes.
    """
    # float16 cannot hold the sum of a picture
    if not _pixels_are_rows(features) or features.device.type != 'cpu' or features.dtype == torch.float16:
        return features.mean(dim=(2, 3), keepdim=True)
    b, c, h, w = features.shape
    pixels = features.permute(0, 2, 3, 1).reshape(b, h * w, c)
    return (torch.bmm(pixels.new_ones(b, 1, h * w), pixels) / (h * w)).view(b, c, 1, 1)


def projection(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A 1x1 convolution, (b, c, h, w) -> (b, out, h, w); in use a product of matrices: 1.3 ms instead of 2.2."""
    if not _pixels_are_rows(features):
        return convolution(features)
    weight = convolution.weight.flatten(1)
    return functional.linear(features.permute(0, 2, 3, 1), weight, convolution.bias).permute(0, 3, 1, 2)


def _pixels_are_rows(features: Tensor) -> bool:
    """Whether features are a matrix in memory, a row a pixel, in use and not watched by a ``TorchFunctionMode``."""
    if not _in_use() or has_torch_function((features,)):
        return False
    return features.is_contiguous(memory_format=torch.channels_last)


def _in_use() -> bool:
    """Whether neither gradients are wanted, nor a compiler or an exporter looks on, which the plain form serves."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


# How many numbers of a layer in bands are there at a time: 32 MiB in bfloat16. The system takes memory back from a
# process, and clears it, above that size.
_BAND = 2**24
_FEWEST_ROWS = 16


def in_bands(function: Callable[[Tensor], Tensor], features: Tensor, scale: int, reach: int) -> Tensor:
    """``function(features)``, (b, c, h, w) -> (b, out, scale * h, scale * w), in use some rows at a time.

    The end of a network is where its tensors are largest: memory, and with it time, is that of a band.

    Args:
        reach: rows of the features above and below that a row of the result depends on, borders zero-padded.
    """
    b, c, h, w = features.shape
    rows = max(_FEWEST_ROWS, _BAND // (b * c * w * scale**2) - 2 * reach)
    if not _in_use() or features.device.type == 'meta' or rows >= h:
        return function(features)
    last = features.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    result = None
    for top in range(0, h, rows):
        start, bottom = max(top - reach, 0), min(top + rows, h)
        band = function(features[:, :, start : bottom + reach].contiguous(memory_format=layout))
        if result is None:
            result = band.new_empty((b, band.shape[1], scale * h, scale * w))
        result[:, :, scale * top : scale * bottom] = band[:, :, scale * (top - start) : scale * (bottom - start)]
    assert result is not None, 'a picture has rows'
    return result


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
    type, like those of the layers around, and the features are kept for the backward pass as they came. In use the
    features, the network's largest, are made float32 in bands of rows.
    """
    weight, bias, padding = convolution.weight, convolution.bias, convolution.padding
    device = features.device.type
    if device == 'meta' or not torch.is_autocast_enabled(device):
        return functional.conv2d(features, weight, bias, padding=padding)
    with torch.autocast(device, enabled=False):
        if not torch.is_grad_enabled():

            def convolve(band: Tensor) -> Tensor:
                return functional.conv2d(band.float(), weight, bias, padding=padding)

            return in_bands(convolve, features, scale=1, reach=convolution.kernel_size[0] // 2)
        return _Float32Convolution.apply(features, weight, bias, padding)  # pyright: ignore[reportReturnType]


class Float32Conv2d(nn.Conv2d):
    """:func:`float32_convolution` as a layer: stride 1, an odd kernel padded to keep the size.

    Whoever casts a network's weights for use leaves this layer's in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        return float32_convolution(self, input)
