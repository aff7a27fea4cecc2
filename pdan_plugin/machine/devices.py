"""The number of CUDA devices that a process uses."""

from __future__ import annotations

from typing import Any

import torch

from pdan_plugin.errors import RequestError


def device_count(num_gpu: Any, distributed: bool, path: str) -> int:
    """The number of CUDA devices on this machine for an option file's ``num_gpu``; 0 is the CPU.

    Args:
        num_gpu: A number of devices, or 'auto' for all of this machine.
        distributed: Whether the process belongs to a group. ``num_gpu`` may then count the devices of all machines, so
            it may be larger than the number here.
        path: The option file, for messages.

    Raises:
        RequestError: Another value, or more devices than this machine has.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpu == 'auto':
        return present
    if not isinstance(num_gpu, int) or isinstance(num_gpu, bool) or num_gpu < 0:
        raise RequestError(f"{path}: num_gpu: {num_gpu!r}: expected a number of devices, or 'auto'")
    if num_gpu > 0 and (present == 0 or (num_gpu > present and not distributed)):
        raise RequestError(
            f'{path}: num_gpu: {num_gpu}: this machine has {present} CUDA devices; write `num_gpu: auto` '
            '(on the command line: --force_yml num_gpu=auto) to use all of them, or the CPU if there are none'
        )
    return num_gpu
