"""The tail of a super-resolution network as one convolution, at inference on a CPU.

RCAN's and PDAN's tails have no activations: convolutions, pixel shuffles, and a last convolution at the size of the
result. Together they are one linear map from the features around a pixel to the block of the result that the pixel
becomes, so one convolution at the size of the input computes the same. At 4x with 32 features it takes 38,400
multiply-accumulates for each pixel of the input instead of 198,144, and no features of the result's size exist.

Each layer pads its own borders with zeros, which one convolution does not reproduce. Blocks at the picture's border are
therefore computed layer by layer, on strips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdan_plugin.archs.fast_layers import is_inference

# Of the input. On fewer, the strips at the border and making the weights cost what the single convolution saves.
_FEWEST_PIXELS = 2048
_FEWEST_ROWS = 8
# elements of a band of the result: 32 MiB in float32 (larger blocks of memory are slow, see `in_bands`)
_BAND = 2**23


class LinearTail(nn.Module):
    """A tail of convolutions, each with a pixel shuffle by one factor, and a last convolution: as one where it pays.

    Shape:
        (b, c, h, w) -> (b, out, s * h, s * w)
    """

    def __init__(self, upsample: nn.Sequential, last: nn.Conv2d) -> None:
        super().__init__()
        self.upsample, self.last = upsample, last

    @staticmethod
    def takes(upsample: nn.Module, last: nn.Module) -> bool:
        """Whether two modules, called one after the other, are such a tail: 3x3 convolutions with bias."""
        if not isinstance(upsample, nn.Sequential) or len(upsample) < 2 or len(upsample) % 2:
            return False
        convolutions, shuffles = list(upsample)[::2], list(upsample)[1::2]
        factors = {each.upscale_factor if isinstance(each, nn.PixelShuffle) else 0 for each in shuffles}
        return len(factors) == 1 and 0 not in factors and all(_keeps_size(each) for each in (*convolutions, last))

    def forward(self, features: Tensor) -> Tensor:
        if not pays_as_one_convolution(features):
            return self._layer_by_layer(features)
        convolutions = [each for each in self.upsample if isinstance(each, nn.Conv2d)]
        shuffle = self.upsample[1]
        assert isinstance(shuffle, nn.PixelShuffle)
        return as_one_convolution(features, convolutions, shuffle.upscale_factor, self.last, self._layer_by_layer)

    def _layer_by_layer(self, features: Tensor) -> Tensor:
        return self.last(self.upsample(features))


def _keeps_size(layer: nn.Module) -> bool:
    if type(layer) is not nn.Conv2d or layer.bias is None or layer.padding_mode != 'zeros':
        return False
    shape = layer.kernel_size, layer.padding, layer.stride, layer.dilation, layer.groups
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)


def pays_as_one_convolution(features: Tensor) -> bool:
    """Whether :func:`as_one_convolution` is faster for features (b, c, h, w) than layer by layer.

    False with gradients, on a GPU, and under a compiler or exporter.
    """
    h, w = features.shape[-2:]
    return is_inference() and features.device.type == 'cpu' and min(h, w) >= _FEWEST_ROWS and h * w >= _FEWEST_PIXELS


def as_one_convolution(
    features: Tensor,
    upsampling: Sequence[nn.Conv2d],
    factor: int,
    last: nn.Conv2d,
    layer_by_layer: Callable[[Tensor], Tensor],
) -> Tensor:
    """What the layers compute, (b, c, h, w) -> (b, out, s * h, s * w), except for rounding.

    Under autocast it is computed in float32, from weights as they are: intermediate features are not rounded.

    Args:
        upsampling: The convolutions of the tail, 3x3 with bias. A pixel shuffle by ``factor`` follows each.
        last: The convolution after them, 3x3 with bias.
        layer_by_layer: The same tail; it gets strips of the features.
    """
    b, _, h, w = features.shape
    scale = factor ** len(upsampling)
    dtype = torch.promote_types(features.dtype, torch.float32)
    with torch.autocast('cpu', enabled=False):
        weight, bias = _composed(upsampling, factor, last, dtype)
        weight = weight.contiguous(memory_format=torch.channels_last)
        reach = weight.shape[-1] // 2
        result = torch.empty((b, last.out_channels, scale * h, scale * w), dtype=dtype)
        blocks = result.view(b, last.out_channels, h, scale, w, scale).permute(0, 2, 4, 1, 3, 5)
        rows = max(1, _BAND // (b * len(weight) * w))
        for top in range(0, h, rows):
            start, bottom = max(top - reach, 0), min(top + rows, h)
            band = functional.conv2d(features[:, :, start : bottom + reach].to(dtype), weight, bias, padding=reach)
            own = band[:, :, top - start : bottom - start].permute(0, 2, 3, 1)
            blocks[:, top:bottom] = own.reshape(*own.shape[:3], *blocks.shape[3:])
    if not torch.is_autocast_enabled('cpu'):
        result = result.to(features.dtype)
    for axis in (2, 3):
        size = features.shape[axis]
        for start, edge in ((0, 0), (size - reach - 1, size - 1)):
            strip = features.narrow(axis, start, reach + 1).contiguous(memory_format=torch.channels_last)
            block = layer_by_layer(strip).narrow(axis, scale * (edge - start), scale)
            result.narrow(axis, scale * edge, scale).copy_(block)
    return result


def _composed(
    upsampling: Sequence[nn.Conv2d], factor: int, last: nn.Conv2d, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The weight (out * s * s, c, k, k) and the bias of one convolution; its channels are (out, row, column in block).

    Composed from the last layer to the first, because the last has few channels.
    """
    assert last.bias is not None
    weight, bias = last.weight.to(dtype), last.bias.to(dtype)
    for convolution in reversed(upsampling):
        assert convolution.bias is not None
        weight = _before_shuffle(weight, factor)
        bias = bias.repeat_interleave(factor**2) + weight.sum((2, 3)) @ convolution.bias.to(dtype)
        # a correlation after a correlation is that with the convolution of their weights
        earlier = functional.pad(convolution.weight.to(dtype), [weight.shape[-1] - 1] * 4)
        weight = functional.conv2d(earlier.transpose(0, 1), weight.flip(2, 3)).transpose(0, 1)
    return _rows_first(weight, last.out_channels, factor), _rows_first(bias, last.out_channels, factor)


def _rows_first(values: Tensor, out: int, factor: int) -> Tensor:
    """Values whose first axis is (out, row and column of the last shuffle, ..., row and column of the first shuffle),
    with (out, row in the block, column in the block) as first axis."""
    shape = [out]
    while math.prod(shape) < len(values):
        shape += [factor, factor]
    rows, columns = range(len(shape) - 2, 0, -2), range(len(shape) - 1, 0, -2)
    others = range(len(shape), len(shape) + values.dim() - 1)
    apart = values.reshape(*shape, *values.shape[1:])
    return apart.permute(0, *rows, *columns, *others).reshape(values.shape)


def _before_shuffle(weight: Tensor, factor: int) -> Tensor:
    """The weight of the convolution of unshuffled features that computes what ``weight`` computes of shuffled ones.

    Shape:
        (out, m, k, k), k odd -> (out * factor * factor, m * factor * factor, K, K), K odd. Both kinds of channels are
        ordered as torch's pixel shuffle orders them.
    """
    reach = weight.shape[-1] // 2
    wide = -(-reach // factor)
    size = factor * (2 * wide + 1)
    shifted: list[Tensor] = []
    for row in range(factor):
        for column in range(factor):
            left, top = (factor * wide - reach + place for place in (column, row))
            right, below = (size - weight.shape[-1] - before for before in (left, top))
            shifted.append(functional.pad(weight, [left, right, top, below]))
    return functional.pixel_unshuffle(torch.stack(shifted, dim=1).flatten(0, 1), factor)
