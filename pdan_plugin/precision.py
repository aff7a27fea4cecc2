"""Number formats of the forward pass: automatic mixed precision, its loss scale, and TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

AUTOCAST_DTYPES: dict[str, torch.dtype | None] = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The forward pass in a precision ('fp32', 'bf16' or 'fp16'); float32 leaves every tensor as it is."""
    dtype = AUTOCAST_DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


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
