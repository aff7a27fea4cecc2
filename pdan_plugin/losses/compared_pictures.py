"""The pictures that a loss compares: their check, and the number format in which they are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def compared(loss: nn.Module, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both pictures in one format: float32 for half precision, else that of ``pred``.

    Args:
        loss: Named in errors.
        pred, target: (n, c, h, w), or clips (n, t, c, h, w).

    Raises:
        ValueError: Shapes differ, or pictures are empty or integer.
    """
    name = type(loss).__name__
    if pred.shape != target.shape or pred.dim() not in (4, 5):
        raise ValueError(
            f'{name} needs pred and target of one shape (n, c, h, w) or (n, t, c, h, w), got '
            f'{tuple(pred.shape)} and {tuple(target.shape)}.'
        )
    if not pred.is_floating_point() or pred.numel() == 0:
        raise ValueError(
            f'{name} needs floating-point pictures that are not empty, got {pred.dtype}, {tuple(pred.shape)}.'
        )
    if pred.dtype in (torch.float16, torch.bfloat16):
        pred = pred.float()
    return pred, target.to(pred.dtype)
