"""Number formats of the forward pass: automatic mixed precision, its loss scale, its speed, which devices have them."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch.nn.functional import conv2d

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import about_processor, one_thread

AUTOCAST_DTYPES: dict[str, torch.dtype | None] = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}

# of the processor, as Linux lists them: x86 under 'flags', ARM under 'Features'
_BF16_INSTRUCTIONS = ('amx_bf16', 'avx512_bf16', 'bf16')
_FIRST_CUDA_WITH_BF16 = (8, 0)  # compute capability: Ampere

_TOO_SLOW = 2.0  # times fp32's time; load on the machine changes a trial by less
_TRIALS = 5


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to a precision ('fp32', 'bf16' or 'fp16'); 'fp32' changes nothing."""
    dtype = AUTOCAST_DTYPES[precision]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of this name ('fp32', 'bf16' or 'fp16'), or for 'auto' the fastest that is safe on a device.

    'auto' is bf16 where the processor or GPU has instructions for it, and fp32 elsewhere. It is never fp16, which
    overflows above 65504: a network that has not been tried in it may give black pictures.

    - CPU: bf16 if Linux lists AMX or AVX-512 with bfloat16, or ARM's bf16, and a convolution in bf16 is faster than in
      fp32 when tried (torch may have been built without the kernels).
    - CUDA: from compute capability 8.0 (Ampere) on; older GPUs emulate bf16. AMD's GPUs by torch's own answer.
    - XPU: if torch reports it. MPS: fp32.

    Raises:
        RequestError: Another name.
    """
    if name not in ('auto', *AUTOCAST_DTYPES):
        raise RequestError(f'precision: {name!r}: expected auto, {", ".join(AUTOCAST_DTYPES)}')
    return _automatic(device)[0] if name == 'auto' else name


def why_precision(device: torch.device) -> str:
    """Why 'auto' is the precision that it is on a device; for the user."""
    return _automatic(device)[1]


def _automatic(device: torch.device) -> tuple[str, str]:
    if device.type == 'cpu':
        return _choose_on_cpu()
    if device.type in ('cuda', 'xpu'):
        return _choose_on_gpu(device)
    return 'fp32', f'bf16 has not been tried on {device.type}'


def bf16_instructions() -> list[str]:
    """The instructions of this processor for bf16, as Linux lists them."""
    listed = {*about_processor('flags').split(), *about_processor('Features').split()}
    return [each for each in _BF16_INSTRUCTIONS if each in listed]


def _choose_on_cpu() -> tuple[str, str]:
    found = next(iter(bf16_instructions()), None)
    if found is None:
        return 'fp32', 'this processor has no instructions for bf16'
    if cost_on_cpu('bf16') >= 1:
        return 'fp32', f'this processor has {found}, but torch is not faster with it here'
    return 'bf16', f'this processor has instructions for it, {found}'


def _choose_on_gpu(device: torch.device) -> tuple[str, str]:
    if _why_without(device, 'bf16') is None:
        return 'bf16', 'this GPU computes in it'
    return 'fp32', 'this GPU does not compute in bf16'


def require_precision(device: torch.device, precision: str) -> None:
    """Checks before a run that a device computes in a precision.

    A GPU that emulates bf16 holds tensors of it, but its libraries have no such convolutions.

    Raises:
        RequestError: It does not; the message names a precision that it has.
    """
    if device.type == 'cuda' and not torch.cuda.is_available():
        return  # whoever uses the device reports that
    why = _why_without(device, precision)
    if why is not None:
        raise RequestError(f'precision {precision}: {why}; use fp16 or fp32')


def _why_without(device: torch.device, precision: str) -> str | None:
    """Why a GPU does not compute in a precision; None if it does."""
    if precision != 'bf16':
        return None
    if device.type == 'cuda' and torch.version.hip is not None:
        return None if torch.cuda.is_bf16_supported() else 'this GPU has no instructions for it'
    if device.type == 'cuda':
        capability = torch.cuda.get_device_capability(device)
        if capability < _FIRST_CUDA_WITH_BF16:
            found, first = ('.'.join(map(str, each)) for each in (capability, _FIRST_CUDA_WITH_BF16))
            return f'this GPU has compute capability {found}, and bf16 needs {first} (Ampere) or higher'
    if device.type == 'xpu':
        xpu: Any = torch.xpu
        # torch before 2.7 does not know it
        if not hasattr(xpu, 'is_bf16_supported') or not xpu.is_bf16_supported(including_emulation=False):
            return 'this GPU has no instructions for it'
    if device.type == 'mps' and not torch.backends.mps.is_macos_or_newer(14, 0):
        return 'this GPU needs macOS 14 or newer for it'
    return None


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
