"""Number formats of the forward pass: automatic mixed precision, its loss scale, what it costs, and TF32."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch.nn.functional import conv2d

from pdan_plugin.machine.cores import one_thread

AUTOCAST_DTYPES: dict[str, torch.dtype | None] = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}

_TOO_SLOW = 2.0  # times fp32's time; a busy machine moves a trial by less
_TRIALS = 5


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The forward pass in a precision ('fp32', 'bf16' or 'fp16'); float32 leaves every tensor as it is."""
    dtype = AUTOCAST_DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def slowness(device: torch.device, precision: str) -> str | None:
    """What to tell whoever asks for a precision that makes things slower on this device; None where it does not.

    A CPU without instructions for bfloat16 or float16 computes in them all the same, many times slower than in float32.
    """
    if device.type != 'cpu' or AUTOCAST_DTYPES[precision] is None:
        return None
    times = cost_on_cpu(precision)
    if times < _TOO_SLOW:
        return None
    return (
        f'precision {precision} is slow on this processor, which has no instructions for it: a convolution takes '
        f'{times:.0f} times as long as in fp32 (just tried); fp32 is the one to use here'
    )


@cache
def cost_on_cpu(precision: str) -> float:
    """How many times as long as in float32 a convolution takes in a precision here; tried, in hundredths of a second.

    Below 1 where the processor has instructions for it; without them 6 to 10 was seen (AVX2, torch 2.14), and more in
    the contiguous layout. One thread is tried, since several wait for each other on a busy machine.
    """
    with one_thread():
        return _convolution_seconds(AUTOCAST_DTYPES[precision]) / _convolution_seconds(torch.float32)


def _convolution_seconds(dtype: torch.dtype | None) -> float:
    batch, weight = (
        torch.zeros(count, 32, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        for count, side in ((1, 32), (32, 3))
    )
    trials = []
    with torch.inference_mode():
        for _ in range(_TRIALS):
            start = time.perf_counter()
            conv2d(batch, weight, padding=1)
            trials.append(time.perf_counter() - start)
    return min(trials)


def loss_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """fp16's scale for the loss, found while training; for other precisions it does nothing and has an empty state."""
    return torch.amp.GradScaler(device.type, enabled=precision == 'fp16')


def allow_tf32(allowed: bool) -> None:
    """Lets CUDA convolutions and matrix products of float32 tensors round their inputs to TF32 (10 bits), or not."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


@contextmanager
def full_float32() -> Iterator[None]:
    """While it lasts, float32 is float32: no TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
