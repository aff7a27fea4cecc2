"""A trained network made ready for use on a device: its layout, its number format, its compiled form."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.precision import AUTOCAST_DTYPES, autocast, full_float32

Restoring = Callable[[Tensor], Tensor]

# Layers whose weights autocast casts at every call. Classes derived from them may do something else with theirs.
_CAST_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def inference_network(
    network: nn.Module, device: torch.device, *, precision: str = 'fp32', compiled: bool = False
) -> Restoring:
    """A function that restores a batch: (b, c, h, w) float32, [0, 1], on any device -> (b, c, s * h, s * w) float32 on
    ``device``, not clipped.

    ``network`` stays as it is: a copy is used, so it may be trained on, saved or let go, and what happens to its
    weights later does not reach the function.

    Args:
        precision: 'fp32'; 'bf16' and 'fp16' compute under autocast, with the weights of convolutions and linear layers
            rounded once and not at every call: the same numbers. Right on any CPU, but faster than 'fp32' only where
            the processor has instructions for bfloat16.
        compiled: Compile with torch.compile, which needs a C++ compiler on a CPU and takes time at the first batch.
            Another size of input may compile once more.

    Raises:
        RequestError: 'fp16' on a CPU: few have instructions for it, and 'bf16' does there what it would.
    """
    if precision == 'fp16' and device.type == 'cpu':
        raise RequestError('precision fp16 is for CUDA devices; few CPUs have instructions for it. Use bf16 or fp32.')
    network = copy.deepcopy(network).eval().requires_grad_(False)
    dtype = AUTOCAST_DTYPES[precision]
    if dtype is not None:
        _cast_once(network, dtype)
    network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if compiled:
        network.compile()

    def restore(batch: Tensor) -> Tensor:
        batch = batch.to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), full_float32(), autocast(device, precision):
            return network(batch).float()

    return restore


def _cast_once(network: nn.Module, dtype: torch.dtype) -> None:
    """Gives the weights that autocast would cast at every call, those without gradients not being kept, its type."""
    for layer in network.modules():
        if type(layer) in _CAST_LAYERS and not parametrize.is_parametrized(layer):
            layer.to(dtype)
