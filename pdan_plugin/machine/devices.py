"""The devices that this machine has, and how many of them a process uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pdan_plugin.errors import RequestError

# the order in which 'auto' looks for a device; the CPU is always there
_ACCELERATORS = ('cuda', 'mps', 'xpu')


def choose_device(name: str | None = 'auto') -> torch.device:
    """The device with this name.

    Args:
        name: A name of torch, such as 'cpu' or 'cuda:1'; 'auto' or None for the first that is usable: CUDA (also
            AMD's ROCm), Apple's MPS, Intel's XPU, and else the CPU.

    Raises:
        RequestError: The named device is unknown or cannot be used here.
    """
    if name is None or name == 'auto':
        return torch.device(next((kind for kind in _ACCELERATORS if _is_usable(kind)), 'cpu'))
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # 'meta' holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f'device {name}: cannot be used: {reason}. Usable here: auto, {", ".join(usable_devices())}'
        ) from error
    return device


def choose_devices(names: str) -> list[torch.device]:
    """The devices of a list such as '0,1' (numbers of GPUs) or 'cuda:0,cuda:2'; 'auto' for all GPUs of the first kind.

    'cpu' may be named several times: each is a worker.

    Raises:
        RequestError: A device is unknown, cannot be used here, or is named twice.
    """
    first = choose_device('auto')
    if names.strip() == 'auto':
        if first.type == 'cpu':
            return [first]
        count = getattr(torch, first.type).device_count()
        return [torch.device(first.type, number) for number in range(count)]
    kind = first.type if first.type != 'cpu' else 'cuda'
    chosen: list[torch.device] = []
    for name in (part.strip() for part in names.split(',')):
        device = choose_device(f'{kind}:{name}' if name.isdecimal() else name)
        if device in chosen and device.type != 'cpu':
            raise RequestError(f'devices {names}: {name} is named twice')
        chosen.append(device)
    return chosen


def usable_devices() -> list[str]:
    """The kinds of device that this machine has: 'cpu', and before it those that are faster."""
    return [*(kind for kind in _ACCELERATORS if _is_usable(kind)), 'cpu']


def _is_usable(kind: str) -> bool:
    backend = torch.backends.mps if kind == 'mps' else getattr(torch, kind, None)
    return backend is not None and bool(backend.is_available())


def training_device(num_gpu: int) -> torch.device:
    """The device of a training or test with ``num_gpu`` GPUs: the CPU for 0, else the first usable kind of GPU.

    Without any it is 'cuda', whose error names what is missing.
    """
    if num_gpu == 0:
        return torch.device('cpu')
    device = choose_device('auto')
    return torch.device('cuda') if device.type == 'cpu' else device


def require_process_per_gpu(train: Mapping[str, Any], num_gpu: int, distributed: bool) -> None:
    """Checks that a training does not need one process per GPU where one process uses several (DataParallel).

    DataParallel's threads silently autocast to the default type, float16. Its replicas of a compiled network all run
    the first replica's code on the first replica's weights.

    Args:
        train: The options ``train``.
        num_gpu: GPUs that the process uses; 0 is the CPU.
        distributed: Whether the process belongs to a group.

    Raises:
        RequestError: It does; the message begins with the option, ``train.precision`` or ``train.compile``.
    """
    precision = train.get('precision', 'fp32')
    alone = [f'precision: {precision}'] * (precision != 'fp32') + ['compile: true'] * bool(train.get('compile'))
    if alone and num_gpu > 1 and not distributed:
        raise RequestError(
            f'train.{alone[0]} on {num_gpu} GPUs needs one process per GPU: add --nproc {num_gpu} to the command, or '
            'set num_gpu: 1'
        )


def device_count(num_gpu: Any, distributed: bool, path: str) -> int:
    """The number of GPUs on this machine for an option file's ``num_gpu``; 0 is the CPU.

    Apple's and Intel's GPUs count as one: a run uses one of them, in one process.

    Args:
        num_gpu: A number of devices, or 'auto' for all of this machine.
        distributed: Whether the process belongs to a group. ``num_gpu`` may then count the devices of all machines, so
            it may be larger than the number here.
        path: The option file, for messages.

    Raises:
        RequestError: Another value, more devices than this machine has, or several processes on another GPU than CUDA.
    """
    kind = choose_device('auto').type
    present = torch.cuda.device_count() if kind == 'cuda' else int(kind != 'cpu')
    is_alone = kind not in ('cuda', 'cpu')
    if num_gpu == 'auto':
        num_gpu = present if not (is_alone and distributed) else 0  # processes of a group share no such GPU
    if not isinstance(num_gpu, int) or isinstance(num_gpu, bool) or num_gpu < 0:
        raise RequestError(f"{path}: num_gpu: {num_gpu!r}: expected a number of devices, or 'auto'")
    if is_alone and num_gpu > 0 and (num_gpu > 1 or distributed):
        raise RequestError(
            f'{path}: num_gpu: {num_gpu}: this machine has a GPU of kind {kind}, which one process uses alone: write '
            '`num_gpu: 1` and start without --nproc and launchers, or `num_gpu: 0` for the CPU'
        )
    if num_gpu > 0 and (present == 0 or (num_gpu > present and not distributed)):
        raise RequestError(
            f'{path}: num_gpu: {num_gpu}: this machine has {present} CUDA devices; write `num_gpu: auto` '
            '(on the command line: --force_yml num_gpu=auto) to use all of them, or the CPU if there are none'
        )
    return num_gpu
