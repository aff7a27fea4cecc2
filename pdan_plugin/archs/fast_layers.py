"""Faster or smaller forms of some of PDAN's operations, with the same results as the plain forms.

Each docstring says what is saved. Measured on a CPU with bfloat16 matrix instructions and features in the channels-last
layout: (4, 64, 64, 64) on two cores for training, (1, 128, 180, 320) on one core for inference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn import functional
from torch.overrides import has_torch_function

Gradients = tuple[Tensor | None, ...]


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
        ctx.save_for_backward(branch, channel_gate, spatial_gate)
        gate = _sum_gate_gradients(branch, channel_gate, spatial_gate)
        return torch.addcmul(x, branch, gate, out=gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        branch, channel_gate, spatial_gate = ctx.saved_tensors
        gradient = gradients[0]
        gate_gradient = gradient * branch
        return (
            gradient,
            _sum_gate_gradients(branch, channel_gate, spatial_gate).mul_(gradient),
            gate_gradient.sum(dim=(2, 3), keepdim=True),
            gate_gradient.sum(dim=1, keepdim=True),
        )


def _sum_gate_gradients(branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
    return torch.add(channel_gate, spatial_gate, out=torch.empty_like(branch))


def gated_residual(x: Tensor, branch: Tensor, channel_gate: Tensor, spatial_gate: Tensor) -> Tensor:
    """x + branch * (channel_gate + spatial_gate), rounded once.

    torch stores the sum of the two gates channels-first, even for channels-last features, and each later operation on
    mixed layouts is ten times as slow. Here the sum has the layout of the features. The backward pass recomputes it, to
    save memory. At inference on a CPU it is computed for a few rows at a time, which stay in the processor's cache, and
    the result overwrites ``branch``. A compiler or tracer gets the plain form: a compiler fuses it itself, and its
    operations have no `out=`, which converters of other programs do not know.

    Shape:
        x, branch (b, c, h, w), channel_gate (b, c, 1, 1), spatial_gate (b, 1, h, w), of one dtype -> (b, c, h, w)
    """
    if _is_recorded():
        return x + branch * (channel_gate + spatial_gate)
    if _pixels_are_rows(branch) and branch.device.type == 'cpu':
        return _gated_in_rows(x, branch, channel_gate, spatial_gate)
    return _GatedResidual.apply(x, branch, channel_gate, spatial_gate)  # pyright: ignore[reportReturnType]


_CACHED = 2**19  # elements that fit into a core's cache: 1 MiB in bfloat16


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


class _SpatialMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.shape = features.shape
        return features.mean(dim=(2, 3), keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        height, width = ctx.shape[-2:]
        return (gradients[0] / (height * width)).expand(ctx.shape)


def spatial_mean(features: Tensor) -> Tensor:
    """The mean over space, (b, c, h, w) -> (b, c, 1, 1).

    At inference (no gradients) on a CPU it is a matrix product with a row of ones, which bfloat16's matrix instructions
    sum in float32: 2 ms instead of 10. Under a ``TorchFunctionMode`` it is the plain mean over both axes.

    With gradients, the plain mean's is a map of its own in the channels-first layout, and adding it to the features'
    other gradients, which are channels-last, takes more than ten times as long as adding two of one layout. Here it is
    a view of one number for each channel, and the sum keeps the features' layout. The numbers are the same.
    """
    if torch.is_grad_enabled() and features.requires_grad and not (_is_recorded() or has_torch_function((features,))):
        return _SpatialMean.apply(features)  # pyright: ignore[reportReturnType]
    # the sum over a picture exceeds the range of float16
    if not _pixels_are_rows(features) or features.device.type != 'cpu' or features.dtype == torch.float16:
        return features.mean(dim=(2, 3), keepdim=True)
    b, c, h, w = features.shape
    pixels = features.permute(0, 2, 3, 1).reshape(b, h * w, c)
    return (torch.bmm(pixels.new_ones(b, 1, h * w), pixels) / (h * w)).view(b, c, 1, 1)


def projection(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A 1x1 convolution, (b, c, h, w) -> (b, out, h, w); at inference a matrix product: 1.3 ms instead of 2.2."""
    if not _pixels_are_rows(features):
        return convolution(features)
    weight = convolution.weight.flatten(1)
    return functional.linear(features.permute(0, 2, 3, 1), weight, convolution.bias).permute(0, 3, 1, 2)


def _pixels_are_rows(features: Tensor) -> bool:
    """Whether this is inference without a ``TorchFunctionMode``, and memory holds a row of channels per pixel."""
    if not is_inference() or has_torch_function((features,)):
        return False
    return features.is_contiguous(memory_format=torch.channels_last)


def is_inference() -> bool:
    """False with gradients, and under a compiler or exporter, which get the plain form."""
    return not (torch.is_grad_enabled() or _is_recorded())


def _is_recorded() -> bool:
    """Whether a compiler or an exporter gets the operations."""
    return torch.compiler.is_compiling() or _is_traced()


def _is_traced() -> bool:
    """Whether operations are recorded for another program, by torch.jit.trace or by make_fx, or transformed by
    torch.func, which takes no autograd functions without rules for each transform."""
    return (
        torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or get_proxy_mode() is not None
        or torch._C._are_functorch_transforms_active()  # pyright: ignore
    )


# Elements of a band of the result: 32 MiB in bfloat16. Larger blocks of memory return to the system when freed, and the
# system clears them before the next use, which takes time.
_BAND = 2**24
_FEWEST_ROWS = 16


def in_bands(function: Callable[[Tensor], Tensor], features: Tensor, scale: int, reach: int) -> Tensor:
    """``function(features)``, (b, c, h, w) -> (b, out, scale * h, scale * w), in bands of rows at inference.

    A network's last tensors are its largest. Computing them in bands takes the memory of a band, and less time.

    Args:
        reach: rows of the features, above and below, that a row of the result depends on. The function must pad borders
            with zeros.
    """
    if not is_inference() or features.device.type == 'meta':
        return function(features)
    b, c, h, w = features.shape
    rows = max(_FEWEST_ROWS, _BAND // (b * c * w * scale**2) - 2 * reach)
    if rows >= h:
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

    In the channels-last layout, the convolution's weights are reordered so that its output holds, for each sub-pixel,
    all channels together. The shuffle then moves whole rows of channels: 5 times as fast forward and 10 times backward.
    """
    if not features.is_contiguous(memory_format=torch.channels_last):
        return functional.pixel_shuffle(convolution(features), factor)
    channels = convolution.out_channels // factor**2
    weight = convolution.weight
    weight = weight.view(channels, factor**2, *weight.shape[1:]).transpose(0, 1).flatten(0, 1)
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
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, weight = ctx.saved_tensors
        gradient = gradients[0]
        features_gradient, weight_gradient, _ = torch.ops.aten.convolution_backward(
            gradient.to(features.dtype), features, weight.to(features.dtype), None,
            [1, 1], ctx.padding, [1, 1], False, [0, 0], 1, [True, True, False],
        )  # fmt: skip
        return features_gradient, weight_gradient.to(weight.dtype), gradient.sum(dim=(0, 2, 3)), None


def float32_convolution(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    """A convolution with a float32 result under autocast, for the last layer: (b, c, h, w) -> (b, out, h, w).

    A bfloat16 picture cannot hold 256 grey levels. Only the result is float32. Gradients are computed in autocast's
    dtype, as in the other layers, and the features are saved for the backward pass in their own dtype. At inference the
    features, the network's largest, are cast to float32 in bands of rows.
    """
    weight, bias, padding = convolution.weight, convolution.bias, convolution.padding
    device = features.device.type
    if device == 'meta' or not torch.is_autocast_enabled(device):
        return functional.conv2d(features, weight, bias, padding=padding)
    with torch.autocast(device, enabled=False):
        if not torch.is_grad_enabled() or _is_traced():

            def convolve(band: Tensor) -> Tensor:
                return functional.conv2d(band.float(), weight, bias, padding=padding)

            return in_bands(convolve, features, scale=1, reach=convolution.kernel_size[0] // 2)
        return _Float32Convolution.apply(features, weight, bias, padding)  # pyright: ignore[reportReturnType]


class Float32Conv2d(nn.Conv2d):
    """:func:`float32_convolution` as a layer: stride 1, an odd kernel padded to keep the size.

    Code that casts a network's weights for inference must leave the weights of this layer in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        return float32_convolution(self, input)
