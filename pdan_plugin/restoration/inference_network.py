"""Prepares a trained network for inference on a device: memory layout, number format, compilation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pdan_plugin.archs.linear_tail import LinearTail
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.compiled_regions import compile_in_place
from pdan_plugin.machine.cores import let_forked_processes_compute
from pdan_plugin.machine.precision import AUTOCAST_DTYPES, autocast, require_precision
from pdan_plugin.machine.tf32 import full_float32

Restoring = Callable[[Tensor], Tensor]

# Layers whose weights autocast casts at every call. Derived classes may use their weights differently.
_CAST_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)

# Networks of the toolbox that compute `conv_last(upsample(features))` and use neither elsewhere.
_WITH_TAIL = ('basicsr.archs.edsr_arch.EDSR', 'basicsr.archs.rcan_arch.RCAN', 'basicsr.archs.swinir_arch.SwinIR')


def inference_network(
    network: nn.Module,
    device: torch.device,
    *,
    precision: str = 'fp32',
    compiled: bool = False,
    layout: torch.memory_format = torch.channels_last,
) -> Restoring:
    """A function that restores a batch: (b, c, h, w) float32, [0, 1], on any device -> (b, c, s * h, s * w) float32 on
    ``device``, not clipped.

    The function uses a copy of ``network``, so later changes to its weights have no effect.

    Args:
        precision: 'fp32'; 'bf16' and 'fp16' compute under autocast. The weights of convolutions and linear layers are
            rounded once, not at every call, with the same results. On a CPU 'bf16' is faster than 'fp32' only if the
            processor has instructions for bfloat16.
        compiled: Whether to use torch.compile, which needs a C++ compiler on a CPU and takes time at the first batch.
            Another input size may compile again. See :mod:`~pdan_plugin.machine.compiled_regions`.
        layout: Of the weights and the input.

    Raises:
        RequestError: 'fp16' on a CPU, because few CPUs have instructions for it, or 'bf16' on a GPU without.
    """
    if precision == 'fp16' and device.type == 'cpu':
        raise RequestError('precision fp16 is for GPUs; few CPUs have instructions for it. Use bf16 or fp32.')
    require_precision(device, precision)
    let_forked_processes_compute()
    network = copy.deepcopy(network).eval().requires_grad_(False)
    dtype = AUTOCAST_DTYPES[precision]
    if dtype is not None:
        _cast_once(network, dtype)
    if device.type == 'cpu':
        _join_tails(network)
    network = network.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    if compiled:
        compile_in_place(network)

    def computing() -> AbstractContextManager[object]:
        # fp32 is fp32 also for a caller that is under autocast itself
        return torch.autocast(device.type, enabled=False) if dtype is None else autocast(device, precision)

    def restore(batch: Tensor) -> Tensor:
        batch = batch.to(device, memory_format=layout)
        with torch.inference_mode(), full_float32(), computing():
            return network(batch).float()

    return restore


def _cast_once(network: nn.Module, dtype: torch.dtype) -> None:
    """Casts the weights once: autocast casts weights without gradients at every call and does not cache them."""
    for layer in network.modules():
        if type(layer) in _CAST_LAYERS and not parametrize.is_parametrized(layer):
            layer.to(dtype)


def _join_tails(network: nn.Module) -> None:
    """Replaces the tails of the toolbox's networks by :class:`LinearTail`; PDAN has its own way."""
    for module in list(network.modules()):
        if f'{type(module).__module__}.{type(module).__name__}' not in _WITH_TAIL:
            continue
        upsample, last = getattr(module, 'upsample', None), getattr(module, 'conv_last', None)
        if isinstance(upsample, nn.Sequential) and isinstance(last, nn.Conv2d) and LinearTail.takes(upsample, last):
            module.upsample, module.conv_last = LinearTail(upsample, last), nn.Identity()
