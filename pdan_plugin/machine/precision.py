"""Number formats of the forward pass: automatic mixed precision, its loss scale, its speed, which devices have them."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch.nn.functional import conv2d

from pdan_plugin.machine.cores import one_thread

AUTOCAST_DTYPES: dict[str, torch.dtype | None] = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}

_TOO_SLOW = 2.0  # times fp32's time; load on the machine changes a trial by less
_TRIALS = 5


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to a precision ('fp32', 'bf16' or 'fp16'); 'fp32' changes nothing."""
    dtype = AUTOCAST_DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def slowness(device: torch.device, precision: str) -> str | None:
    """A warning text if a precision is slow on this device; None if it is not.

    A CPU without instructions for bfloat16 or float16 emulates them, many times slower than float32.
    """
    if device.type != 'cpu' or AUTOCAST_DTYPES[precision] is None:
        return None
    times = cost_on_cpu(precision)
    if times < _TOO_SLOW:
        return None
    return (
        f'precision {precision} is slow on this processor, which has no instructions for it: a convolution takes '
        f'{times:.0f} times as long as in fp32 (measured now); use fp32 here'
    )


@cache
def cost_on_cpu(precision: str) -> float:
    """Time of a convolution in a precision on this CPU, relative to float32. Measuring takes some 10 ms.

    Below 1 if the processor has instructions for it. Without them 6 to 10 was measured (AVX2, torch 2.14), and more in
    the contiguous layout. One thread is used, because several threads wait for each other on a busy machine.
    """
    with one_thread():
        return _convolution_seconds(AUTOCAST_DTYPES[precision]) / _convolution_seconds(torch.float32)


def _convolution_seconds(dtype: torch.dtype | None) -> float:
    batch, weight = (
        torch.zeros(count, 32, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        for count, side in ((1, 32), (32, 3))
    )
    trials: list[float] = []
    with torch.inference_mode():
        for _ in range(_TRIALS):
            start = time.perf_counter()
            conv2d(batch, weight, padding=1)
            trials.append(time.perf_counter() - start)
    return min(trials)


def loss_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """The loss scaler for fp16. For other precisions it does nothing and has an empty state."""
    return torch.amp.GradScaler(device.type, enabled=precision == 'fp16')
