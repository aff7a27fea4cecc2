"""Chooses the memory layout of a network in float32 on a GPU: channels-last or contiguous, whichever is faster there.

In bf16 and fp16, channels-last is the layout of the tensor cores. In float32 it depends on the GPU and the network, and
is tried once in a process for each.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

import torch
from torch import nn

from pdan_plugin.machine.device_timing import seconds_of
from pdan_plugin.machine.working_memory import is_out_of_memory
from pdan_plugin.restoration.inference_network import Restoring, inference_network

_SIDE = 128  # pixels of the square that is timed
_CHANNELS_LAST, _CONTIGUOUS = 'channels-last', 'contiguous'

_chosen: dict[Hashable, str] = {}
_lock = threading.Lock()


def layouts_differ(device: torch.device, precision: str, *, compiled: bool) -> bool:
    """Whether both layouts must be tried. With ``compiled``, the compiler chooses layouts on its own."""
    return device.type == 'cuda' and precision == 'fp32' and not compiled


def in_faster_layout(
    restore: Restoring, network: nn.Module, device: torch.device, *, channels: int, multiple: int
) -> Restoring:
    """``restore``, which is ``network`` in channels-last, or the same in the contiguous layout if that is faster.

    Args:
        channels, multiple: What the network takes.
    """
    key = (str(device), type(network).__qualname__, tuple(each.shape for each in network.parameters()))
    with _lock:
        if _chosen.get(key) == _CHANNELS_LAST:
            return restore
        contiguous = inference_network(network, device, layout=torch.contiguous_format)
        if key not in _chosen:
            _chosen[key] = _faster(restore, contiguous, device, channels, -(-_SIDE // multiple) * multiple)
    return contiguous if _chosen[key] == _CONTIGUOUS else restore


def _faster(restore: Restoring, contiguous: Restoring, device: torch.device, channels: int, side: int) -> str:
    batch = torch.rand(1, channels, side, side, generator=torch.Generator()).to(device)
    try:
        seconds = seconds_of({_CHANNELS_LAST: lambda: restore(batch), _CONTIGUOUS: lambda: contiguous(batch)}, device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _CHANNELS_LAST
    return min(seconds, key=lambda name: seconds[name])
