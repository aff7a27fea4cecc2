"""What the GPUs of each maker offer through torch: CUDA (and ROCm, under its name), Intel's xpu, Apple's mps."""

from __future__ import annotations

import threading
from typing import Any

import torch

_KINDS = ('cuda', 'xpu', 'mps')

allocator_lock = threading.RLock()  # torch records one graph at a time, and frees no cached memory meanwhile


def device_module(device: torch.device) -> Any:
    """torch's module of a device's kind, such as `torch.cuda`; None for the CPU and for other kinds."""
    return getattr(torch, device.type, None) if device.type in _KINDS else None


def has_own_memory(device: torch.device) -> bool:
    """Whether pictures on the device take none of the machine's memory. Apple's GPUs share it."""
    return device.type in ('cuda', 'xpu')


def has_float64(device: torch.device) -> bool:
    """Whether the device has tensors of float64. Apple's GPUs have none."""
    return device.type != 'mps'


def reports_peak_memory(device: torch.device) -> bool:
    """Whether torch records the peak of its allocations on the device."""
    return device.type in ('cuda', 'xpu')


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given; a CPU is never behind."""
    module = device_module(device)
    if module is None:
        return
    if device.type == 'mps':  # there is one device, and the call takes none
        module.synchronize()
    else:
        module.synchronize(device)


def free_cached_memory(device: torch.device) -> None:
    """Returns memory that torch keeps for later allocations to the device."""
    module = device_module(device)
    if module is not None:
        with allocator_lock:
            module.empty_cache()


def name_of(device: torch.device) -> str | None:
    """The device's name as its maker gives it; None for a CPU."""
    module = device_module(device)
    if module is None:
        return None
    return 'Apple GPU (mps)' if device.type == 'mps' else str(module.get_device_name(device))
