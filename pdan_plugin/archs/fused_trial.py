"""Compares the fused form of the attention block with the plain form on a device, on small random maps."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdan_plugin.archs import fused_block
from pdan_plugin.archs.fused_block import BlockLayers

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# Of the compared tensor's largest value; rounding to nearest is half of eps. float32 also adds thousands of roundings.
TOLERANCES = {dtype: max(2 * float(torch.finfo(dtype).eps), 1e-5) for dtype in DTYPES}
# (samples, height, width). The second size has a multiple of 16 pixels, for which Triton compiles other code, and its
# sums have many parts.
SIZES = ((3, 5, 7), (1, 64, 96))


@dataclass(frozen=True)
class Form:
    """What the kernels are compiled for.

    Attributes:
        dtype: Of the feature maps.
        weight_dtype: Of the weights and biases.
        squeezed: Channels inside the channel gate.
        is_spatial: Whether there is a spatial gate.
        with_gradients: Whether the backward pass is needed.
    """

    device: torch.device
    dtype: torch.dtype
    weight_dtype: torch.dtype
    channels: int
    squeezed: int
    is_spatial: bool
    layout: torch.memory_format
    with_gradients: bool


def trial(form: Form) -> str | None:
    """Compares the fused form with the plain form in float64 on small random maps; None, or what differs.

    The largest difference may be twice the eps of the compared tensor's format (for float32 1e-5) times its largest
    value: 1.6% in bfloat16, 0.2% in float16.
    """
    for batch, height, width in SIZES:
        operands = _Operands.random(form, batch, height, width)
        expected = operands.double().results(fused=False)
        for name, got in operands.results(fused=True).items():
            difference = _difference(got, expected[name])
            if not difference <= TOLERANCES[got.dtype]:  # NaN is not
                return (
                    f'{name} differs from the plain form by {difference:.2g} of its largest value, more than '
                    f'{TOLERANCES[got.dtype]:.2g}, for maps ({batch}, {form.channels}, {height}, {width})'
                )
    return None


def _difference(got: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().clamp_min(1e-30)
    return float((got.double() - expected).abs().max() / scale)


@dataclass
class _Operands:
    """The operands of a trial: the features before the ReLU, x, the branch, the result's gradient; layers."""

    form: Form
    features: Tensor
    x: Tensor
    branch: Tensor
    gradient: Tensor
    layers: BlockLayers

    @classmethod
    def random(cls, form: Form, batch: int, height: int, width: int) -> _Operands:
        generator = torch.Generator().manual_seed(0)  # the network's own random numbers stay what they are

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        def as_map(values: Tensor) -> Tensor:
            return values.to(form.device, form.dtype).contiguous(memory_format=form.layout)

        def convolution(inner: int, outer: int, bias: Tensor | None = None) -> nn.Conv2d:
            made = nn.Conv2d(inner, outer, 1, device='meta', dtype=form.weight_dtype).to_empty(device=form.device)
            with torch.no_grad():
                made.weight.copy_(normal(outer, inner, 1, 1).abs() / inner**0.5)
                made.get_parameter('bias').copy_(normal(outer) if bias is None else bias)
            return made

        # Weights are above 0, and the gradient is like the branch. Otherwise sums would almost cancel, and rounding
        # errors would be most of what is left.
        c, squeezed = form.channels, form.squeezed
        shape = (batch, c, height, width)
        branch = normal(*shape) + 0.5
        gradient = (branch + normal(*shape)) / 32  # sums of it over a map stay in the range of float16
        of_squeeze = normal(squeezed).abs()
        of_squeeze[1::2] = -100  # the ReLU stops every second one
        layers = BlockLayers(
            # of the first two, 3x3 in a block, only the biases are used
            convolution(1, c), convolution(1, c), convolution(c, squeezed, of_squeeze), convolution(squeezed, c),
            convolution(c, 1) if form.is_spatial else None,
        )  # fmt: skip
        return cls(form, as_map(normal(*shape)), as_map(normal(*shape)), as_map(branch), as_map(gradient), layers)

    def double(self) -> _Operands:
        def exact(layer: nn.Conv2d | None) -> nn.Conv2d | None:
            if layer is None:
                return None
            return copy.deepcopy(layer).double()

        maps = (each.double() for each in (self.features, self.x, self.branch, self.gradient))
        return _Operands(self.form, *maps, BlockLayers(*map(exact, self.layers)))  # pyright: ignore

    def results(self, *, fused: bool) -> dict[str, Tensor]:
        """The results, and with gradients all gradients, by name."""
        form = self.form
        tensors = {'x': self.x, 'branch': self.branch, 'features': self.features}
        weights = {
            f'{name} {kind}': getattr(layer, kind)
            for name, layer in self.layers._asdict().items()
            if layer is not None
            for kind in ('weight', 'bias')
            if kind == 'bias' or not name.startswith('conv')
        }
        with torch.set_grad_enabled(form.with_gradients):
            for each in tensors.values():
                each.requires_grad_(form.with_gradients)
            # clones: the ReLU is written over its argument, and without gradients the result over the branch
            rectify, gate = (fused_block.biased_relu, fused_block.gated_branch) if fused else (_relu, _gated)
            hidden = rectify(self.features.clone(memory_format=torch.preserve_format), self.layers.conv1.bias)
            result = gate(self.x, self.branch.clone(), self.layers.conv2.bias, self.layers)
            found = {'the ReLU': hidden.detach(), 'the result': result.detach()}
            if form.with_gradients:
                wanted = [*tensors.values(), *weights.values()]
                gradients = torch.autograd.grad([hidden, result], wanted, [self.gradient, self.gradient])
                names = [f'the gradient of {name}' for name in (*tensors, *weights)]
                found |= dict(zip(names, gradients, strict=True))
        return found


def _relu(features: Tensor, bias: Tensor | None) -> Tensor:
    assert bias is not None
    return torch.relu(features + bias.view(-1, 1, 1))


def _gated(x: Tensor, branch: Tensor, bias: Tensor | None, layers: BlockLayers) -> Tensor:
    """The plain form, for any format: `AttentionBlock` after its second convolution."""
    assert bias is not None
    branch = branch + bias.view(-1, 1, 1)

    def dense(layer: nn.Conv2d, features: Tensor) -> Tensor:
        return functional.conv2d(features, layer.weight, layer.bias)

    mean = branch.mean(dim=(2, 3), keepdim=True)
    gate: Any = torch.sigmoid(dense(layers.excite, torch.relu(dense(layers.squeeze, mean))))
    if layers.project is not None:
        gate = gate + torch.sigmoid(dense(layers.project, branch))
    return x + branch * gate
