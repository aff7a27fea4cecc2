"""Optimizers that update all parameters in one kernel, and can skip a step by a flag that only their device knows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# torch computes these in one kernel for all parameters, on a CPU too
FUSED_OPTIMIZERS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}
FUSED_DEVICES = ('cpu', 'cuda', 'xpu', 'mps')


def skips_by_flag(optimizers: Sequence[torch.optim.Optimizer]) -> bool:
    """Whether :func:`step_unless` works for these optimizers and saves the host a wait.

    They are fused ones of torch, and all their parameters are on one CUDA device in one number format.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    kinds = {(parameter.device, parameter.dtype) for group in groups for parameter in group['params']}
    return (
        all(type(optimizer) in FUSED_OPTIMIZERS.values() for optimizer in optimizers)
        and all(group.get('fused') for group in groups)
        and len(kinds) == 1
        and next(iter(kinds))[0].type == 'cuda'
    )


def step_unless(flag: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Steps a fused optimizer, unless a flag is 1 on its device; then neither parameters nor state change.

    It uses the attributes with which torch's GradScaler makes a fused optimizer skip a step. The gradients must be
    unscaled already.

    Args:
        flag: 0 or 1, a float32 scalar on the device of the parameters. The host does not read it.
    """
    optimizer.grad_scale, optimizer.found_inf = None, flag  # pyright: ignore[reportAttributeAccessIssue]
    try:
        optimizer.step()
    finally:
        del optimizer.grad_scale, optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]
