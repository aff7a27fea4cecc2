"""The toolbox's operations where its compiled extensions are missing, as in every installation by pip."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pdan_plugin.toolbox_fixes.patching import fix, probe, replace

# not `from`: the packages have functions of the modules' names
_fused_act: Any = importlib.import_module('basicsr.ops.fused_act.fused_act')
_upfirdn2d: Any = importlib.import_module('basicsr.ops.upfirdn2d.upfirdn2d')


@fix(
    where='ops/fused_act/fused_act.py:94; ops/upfirdn2d/upfirdn2d.py:151',
    upstream='#535',
    symptom="StyleGAN2, and GFPGAN's own networks: NameError: name 'fused_act_ext' is not defined",
    is_called_for=lambda: not all(_is_compiled(module) for module in (_fused_act, _upfirdn2d)),
    behaves=lambda: _activates_on_a_cpu(),
)
def stylegan2_runs_without_extensions() -> None:
    """Bias, activation and resampling by torch's own operations, on a CPU and where the extension is not compiled."""
    activate, resample = _fused_act.fused_leaky_relu, _upfirdn2d.upfirdn2d

    @functools.wraps(activate)
    def fused_leaky_relu(input: Tensor, bias: Tensor, negative_slope: float = 0.2, scale: float = 2**0.5) -> Tensor:
        if _is_compiled(_fused_act) and input.device.type == 'cuda':
            return activate(input, bias, negative_slope, scale)
        shape = 1, -1, *(1 for _ in input.shape[2:])
        return functional.leaky_relu(input + bias.view(shape), negative_slope) * scale

    @functools.wraps(resample)
    def upfirdn2d(input: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
        if _is_compiled(_upfirdn2d) and input.device.type == 'cuda':
            return resample(input, kernel, up, down, pad)
        return _upfirdn2d.upfirdn2d_native(input, kernel, up, up, down, down, pad[0], pad[1], pad[0], pad[1])

    replace(_fused_act, 'fused_leaky_relu', fused_leaky_relu)
    replace(_upfirdn2d, 'upfirdn2d', upfirdn2d)


def _is_compiled(module: Any) -> bool:
    return hasattr(module, f'{module.__name__.rpartition(".")[2]}_ext')


@probe
def _activates_on_a_cpu() -> bool:
    found = _fused_act.fused_leaky_relu(torch.full((1, 2), -1.0), torch.zeros(2), 0.5, 2.0)
    return bool((found == -1).all())
