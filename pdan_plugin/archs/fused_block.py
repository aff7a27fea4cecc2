"""PDAN's attention block beside its convolutions, in few passes over the feature maps: autograd's side of the kernels.

A block without fusing reads and writes a map for each small operation (bias, ReLU, mean, projection, gate, sum). Here
these are six maps forward and ten backward, the least that is possible around two convolutions of a library:

====================  ==========================================================================  =====
``rectify``           ReLU(features + bias), in place                                             1 + 1
``reduce_branch``     the means and the spatial gate of the branch                                1
``add_gated``         x + branch * gate                                                           2 + 1
``reduce_gradient``   all sums that the gates' gradients need                                     2
``branch_gradients``  the gradient of the branch                                                  1 + 1
``rectify_backward``  the gradient before the ReLU                                                2 + 1
autograd              adds the gradients of both uses of x                                        2 + 1
====================  ==========================================================================  =====

(maps read + written.) Values are computed in float32 and rounded when they are stored, so results differ from the plain
form by less than its own rounding. Which form a block takes is decided in :mod:`~pdan_plugin.archs.fused_choice`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Gradients = tuple[Tensor | None, ...]

MOST_CHANNELS = 256
MOST_WEIGHTS = 8192  # of one layer of the channel gate, rounded up to powers of two: a program holds both layers
MOST_SAMPLES = 65535  # the second dimension of a grid

_TILE = 4096  # elements
_WARPS = 4
_MOST_PROGRAMS = 1024  # of a kernel that sums: each leaves a row of sums, which one program for each sample adds
_MOST_PARTS = 256
_PARTS_AT_ONCE = 16
_ALIGNMENT = 16  # bytes


class BlockLayers(NamedTuple):
    """The layers of an attention block; ``project`` is None without a spatial gate."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    squeeze: nn.Conv2d
    excite: nn.Conv2d
    project: nn.Conv2d | None


def fused_block(x: Tensor, layers: BlockLayers) -> Tensor:
    """x + u * gate(u) with u = conv2(ReLU(conv1(x))), (b, c, h, w) -> (b, c, h, w). See ``AttentionBlock``.

    Its gradients are those of the plain form. Gradients of gradients raise.
    """
    layout = map_layout(x, layers.conv1.weight)
    hidden = biased_relu(_without_bias(layers.conv1, x, layout), layers.conv1.bias)
    return gated_branch(x, _without_bias(layers.conv2, hidden, layout), layers.conv2.bias, layers)


def _without_bias(convolution: nn.Conv2d, features: Tensor, layout: torch.memory_format) -> Tensor:
    convolved = functional.conv2d(features, convolution.weight, None, padding=convolution.padding)
    return convolved.contiguous(memory_format=layout)


def map_layout(x: Tensor, weight: Tensor) -> torch.memory_format:
    """The layout in which torch's convolutions return their result: channels-last if one of their arguments is."""
    last = any(each.is_contiguous(memory_format=torch.channels_last) and not each.is_contiguous()
               for each in (x, weight))  # fmt: skip
    return torch.channels_last if last else torch.contiguous_format


def biased_relu(features: Tensor, bias: Tensor | None) -> Tensor:
    """ReLU(features + bias), (b, c, h, w), written over ``features``, which must be dense. Keeps NaN, as torch's."""
    assert bias is not None, 'the choice takes convolutions with a bias'
    if torch.is_grad_enabled() and (features.requires_grad or bias.requires_grad):
        return _BiasedReLU.apply(features, bias)  # pyright: ignore[reportReturnType]
    return _rectify(features, bias)


def gated_branch(x: Tensor, branch: Tensor, bias: Tensor | None, layers: BlockLayers) -> Tensor:
    """x + u * (channel gate(u) + spatial gate(u)) with u = branch + bias. Without gradients written over ``branch``.

    Shape:
        x, branch (b, c, h, w) of one dtype, the branch dense; bias (c,) -> (b, c, h, w) in the branch's layout
    """
    assert bias is not None, 'the choice takes convolutions with a bias'
    squeeze, excite, project = layers.squeeze, layers.excite, layers.project
    gates = (squeeze.weight, squeeze.bias, excite.weight, excite.bias)
    gates += (None, None) if project is None else (project.weight, project.bias)
    tensors = (x, branch, bias, *gates)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors):
        return _GatedBranch.apply(*tensors)  # pyright: ignore[reportReturnType]
    return _Gating(branch, bias, gates).forward(x, branch)


class _BiasedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, bias: Tensor) -> Tensor:
        ctx.mark_dirty(features)
        ctx.save_for_backward(_rectify(features, bias))
        ctx.bias_dtype = bias.dtype
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        _refuse_second_derivatives()
        (features,) = ctx.saved_tensors
        features_gradient, bias_gradient = _rectify_backward(gradients[0], features)
        return features_gradient, bias_gradient.to(ctx.bias_dtype)


class _GatedBranch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, branch: Tensor, bias: Tensor, *gates: Tensor | None) -> Tensor:
        gating = _Gating(branch, bias, gates)
        result = gating.forward(x, torch.empty_like(branch))
        ctx.save_for_backward(branch, bias, *gates, *gating.kept)
        ctx.gates = len(gates)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        _refuse_second_derivatives()
        branch, bias, *others = ctx.saved_tensors
        gates, kept = others[: ctx.gates], others[ctx.gates :]
        if not any(ctx.needs_input_grad[1:]):
            return gradients[0], *[None] * (len(gates) + 2)
        return gradients[0], *_Gating(branch, bias, gates, kept).backward(gradients[0])


def _refuse_second_derivatives() -> None:
    """Autograd computes gradients with gradients of their own only for those who asked (create_graph=True)."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            'the fused form of the attention block has no second derivatives (create_graph=True); set the environment '
            'variable PDAN_FUSED_GATES=0, and the block takes its plain form, which has them'
        )


class _Map:
    """A dense feature map, and how its kernels are launched."""

    def __init__(self, features: Tensor) -> None:
        self.device = features.device
        self.samples, self.channels, height, width = features.shape
        self.size = height * width
        last = not features.is_contiguous()
        self.layout = torch.channels_last if last else torch.contiguous_format
        assert features.is_contiguous(memory_format=self.layout), features.stride()
        block = _power_of_two(self.channels)
        pixels = _TILE // block
        self.constants = {'C': self.channels, 'BLOCK_C': block, 'BLOCK_P': pixels, 'LAST': last}
        self.tiles = -(-self.size // pixels)
        self.parts = max(1, min(self.tiles // 2, _MOST_PARTS, _MOST_PROGRAMS // self.samples))

    def of_layout(self, features: Tensor) -> Tensor:
        """Features in this map's layout. A part of a larger tensor may begin anywhere; kernels are tried with maps of
        their own memory, whose alignment Triton makes use of.
        """
        features = features.contiguous(memory_format=self.layout)
        return features if features.data_ptr() % _ALIGNMENT == 0 else features.clone()

    def new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.device)

    def for_tiles(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        launch(kernel, (self.tiles, self.samples), self.device, *arguments, self.size, **self.constants, **constants)

    def for_parts(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        launch(kernel, (self.parts, self.samples), self.device, *arguments, self.size, **self.constants, **constants)


def launch(kernel: Any, grid: tuple[int, ...], device: torch.device, *arguments: Any, **constants: Any) -> None:
    """Launches a kernel on the tensors' device, which need not be the current one."""
    on_device: AbstractContextManager[object] = torch.cuda.device(device) if device.type == 'cuda' else nullcontext()
    with on_device:
        kernel[grid](*arguments, **constants, num_warps=_WARPS)


def _kernels() -> Any:
    # imported here because torch may come without Triton
    from pdan_plugin.archs import fused_kernels

    return fused_kernels


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _rectify(features: Tensor, bias: Tensor) -> Tensor:
    _Map(features).for_tiles(_kernels().rectify, features, bias.contiguous())
    return features


def _rectify_backward(gradient: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    own = _Map(features)
    features_gradient, sums = torch.empty_like(features), own.new(own.samples, own.parts, own.channels)
    own.for_parts(_kernels().rectify_backward, own.of_layout(gradient), features, features_gradient, sums)
    return features_gradient, sums.sum(dim=(0, 1))


class _Gating:
    """The gates of one branch.

    Args:
        gates: weight and bias of squeeze and excite, and of project or two times None.
        kept: What `forward` kept for `backward`, in the attribute of this name.
    """

    def __init__(self, branch: Tensor, bias: Tensor, gates: Any, kept: Any = ()) -> None:
        self.branch, self.bias, self.kept = branch, bias.contiguous(), kept
        self.gates: list[Tensor | None] = [None if each is None else each.contiguous() for each in gates]
        self.is_spatial = gates[4] is not None
        own = self.map = _Map(branch)
        squeezed = gates[0].shape[0]
        self.constants = {
            'C': own.channels, 'R': squeezed,
            'BLOCK_C': own.constants['BLOCK_C'], 'BLOCK_R': _power_of_two(squeezed),
        }  # fmt: skip

    def forward(self, x: Tensor, result: Tensor) -> Tensor:
        """Writes into ``result``, which has the branch's layout, and may be the branch."""
        own, kernels = self.map, _kernels()
        spatial = {'SPATIAL': self.is_spatial}
        squeeze_weight, squeeze_bias, excite_weight, excite_bias, project_weight, project_bias = self.gates
        # a kernel without the spatial gate ignores these; it takes any tensor in their place
        weight, offset = _or(project_weight, self.bias), _or(project_bias, self.bias)
        sums = own.new(own.samples, own.parts, own.channels)
        mean, gate = own.new(own.samples, own.channels), own.new(own.samples, own.channels)
        hidden = own.new(own.samples, self.constants['R'])
        spatial_gate = own.new(own.samples, own.size) if self.is_spatial else gate
        own.for_parts(kernels.reduce_branch, self.branch, self.bias, weight, offset, sums, spatial_gate, **spatial)
        self._for_samples(
            kernels.channel_gates, sums, squeeze_weight, squeeze_bias, excite_weight, excite_bias, mean, hidden, gate,
            own.parts, own.size, BLOCK_PARTS=_PARTS_AT_ONCE,
        )  # fmt: skip
        x = own.of_layout(x)
        own.for_tiles(kernels.add_gated, x, self.branch, self.bias, gate, spatial_gate, result, **spatial)
        self.kept = mean, hidden, gate, spatial_gate
        return result

    def backward(self, gradient: Tensor) -> Gradients:
        """The gradients of the branch, of its bias, and of the gates' weights and biases."""
        own, kernels = self.map, _kernels()
        spatial = {'SPATIAL': self.is_spatial}
        squeeze_weight, _, excite_weight, _, project_weight, _ = self.gates
        mean, hidden, gate, spatial_gate = self.kept
        gradient = own.of_layout(gradient)
        weight = _or(project_weight, self.bias)
        sums = own.new(own.samples, 4, own.parts, own.channels)
        project_sums, spatial_gradient = (
            (own.new(own.samples, own.parts), own.new(own.samples, own.size)) if self.is_spatial else (sums, sums)
        )
        own.for_parts(
            kernels.reduce_gradient, gradient, self.branch, self.bias, spatial_gate, sums, spatial_gradient,
            project_sums, **spatial,
        )  # fmt: skip
        gate_gradient, spread, bias_gradients, project_gradients = own.new(4, own.samples, own.channels).unbind()
        hidden_gradient, project_bias_gradients = torch.empty_like(hidden), own.new(own.samples)
        self._for_samples(
            kernels.channel_gates_backward, sums, project_sums, hidden, gate, squeeze_weight, excite_weight, weight,
            gate_gradient, hidden_gradient, spread, bias_gradients, project_gradients, project_bias_gradients,
            own.parts, own.size, BLOCK_PARTS=_PARTS_AT_ONCE, **spatial,
        )  # fmt: skip
        branch_gradient, bias_gradient = torch.empty_like(self.branch), torch.empty_like(self.bias)
        own.for_tiles(
            kernels.branch_gradients, gradient, gate, spread, spatial_gate, spatial_gradient, weight, branch_gradient,
            **spatial,
        )  # fmt: skip
        results = [None if each is None else torch.empty_like(each) for each in self.gates]
        launch(
            kernels.weight_gradients, (1,), own.device, mean, hidden, gate_gradient, hidden_gradient, bias_gradients,
            project_gradients, project_bias_gradients, bias_gradient, *(_or(each, sums) for each in results),
            own.samples, **self.constants, **spatial,
        )  # fmt: skip
        return branch_gradient, bias_gradient, *results

    def _for_samples(self, kernel: Callable[..., Any], *arguments: Any, **constants: Any) -> None:
        launch(kernel, (self.map.samples,), self.map.device, *arguments, **self.constants, **constants)


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    return other if tensor is None else tensor
