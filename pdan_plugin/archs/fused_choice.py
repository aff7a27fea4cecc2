"""When the attention block takes its fused form: on CUDA, after the fused form has proved itself there.

The fused form is used if all of this holds; else the block takes its plain form:

- The features are on CUDA, in float32, float16 or bfloat16, and the convolutions compute in that format (autocast).
- Nothing records or changes the operations: no torch.compile, export, tracer, ``TorchFunctionMode``, dispatch mode,
  functorch transform, tensor subclass, hook or changed method on one of the block's layers.
- The layers are torch's own ``Conv2d``, with a bias, all of one format and device; at most 256 channels, and 8192
  weights in a layer of the channel gate (both numbers of channels rounded up to powers of two); more than one pixel.
- The environment variable PDAN_FUSED_GATES is not 0.
- At its first use for this device, formats, channels and layout, the fused form computed what the plain form computes
  in float64, on small random maps: results, and for training all gradients. While a CUDA graph is captured, and inside
  a backward pass (a reentrant checkpoint), nothing can be tried: what was not tried before takes the plain form.

A failed trial, be it for a missing compiler or for wrong numbers, is one warning that names the cause.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.modules import module as modules
from torch.overrides import has_torch_function
from torch.utils._python_dispatch import _get_current_dispatch_mode  # pyright: ignore[reportPrivateUsage]

from pdan_plugin.archs import fused_block
from pdan_plugin.archs.fused_block import BlockLayers
from pdan_plugin.archs.fused_trial import DTYPES, Form, trial

SWITCH = 'PDAN_FUSED_GATES'
DEVICE_TYPES = ('cuda',)

_HOOKS = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')


@dataclass
class _Trials:
    """The outcomes of this process: form -> what is wrong with it, or None."""

    faults: dict[Form, str | None] = field(default_factory=dict[Form, 'str | None'])
    warned: set[str] = field(default_factory=set[str])
    lock: threading.Lock = field(default_factory=threading.Lock)


_trials = _Trials()


def is_fused(x: Tensor, layers: BlockLayers, gates: Iterable[nn.Module | None] = ()) -> bool:
    """Whether a block takes its fused form for features (b, c, h, w). The first call for a form takes seconds.

    Args:
        gates: The modules that the fused form does not call, beside the layers.

    Raises:
        ValueError: The environment variable has an unknown value.
    """
    if x.device.type not in DEVICE_TYPES or torch.compiler.is_compiling() or not _is_wanted():
        return False
    form = form_of(x, layers, gates)
    return form is not None and _is_sound(form)


def _is_wanted() -> bool:
    value = os.environ.get(SWITCH, '1')
    if value not in ('0', '1'):
        raise ValueError(f'environment variable {SWITCH}: expected 0 or 1, got {value!r}')
    return value == '1'


def form_of(x: Tensor, layers: BlockLayers, gates: Iterable[nn.Module | None] = ()) -> Form | None:
    """The form that a block needs for these features on their device, whatever its type; None if one of the first three
    rules of this module forbids it.
    """
    convolutions = [each for each in layers if each is not None]
    if any(type(each) is not nn.Conv2d for each in convolutions) or _are_watched([*convolutions, *gates]):
        return None
    tensors = [each for layer in convolutions for each in (layer.weight, layer.bias) if each is not None]
    if len(tensors) < 2 * len(convolutions):
        return None
    if any(type(each) is not Tensor and type(each) is not nn.Parameter for each in (x, *tensors)):
        return None
    if _is_recorded(x) or not _is_of_a_size(x, layers):
        return None
    weight = layers.conv1.weight
    if any(each.dtype != weight.dtype or each.device != x.device for each in tensors):
        return None
    kind = x.device.type
    computed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    if x.dtype != computed or x.dtype not in DTYPES or weight.dtype not in DTYPES:
        return None
    return Form(
        x.device, x.dtype, weight.dtype, x.shape[1], layers.squeeze.out_channels, layers.project is not None,
        fused_block.map_layout(x, weight), torch.is_grad_enabled(),
    )  # fmt: skip


def _are_watched(layers: Iterable[nn.Module | None]) -> bool:
    """Whether someone sees the calls of these modules, or has changed them."""
    if modules._has_any_global_hook():  # pyright: ignore[reportPrivateUsage]
        return True
    return any(
        any(getattr(each, hooks) for hooks in _HOOKS)
        or 'forward' in each.__dict__
        or each._compiled_call_impl is not None  # pyright: ignore
        for each in layers
        if each is not None
    )


def _is_recorded(x: Tensor) -> bool:
    return (
        torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or get_proxy_mode() is not None
        or has_torch_function((x,))
        or _get_current_dispatch_mode() is not None
        or torch._C._are_functorch_transforms_active()  # pyright: ignore
    )


def _is_of_a_size(x: Tensor, layers: BlockLayers) -> bool:
    b, c, h, w = x.shape
    rounded = [1 << (number - 1).bit_length() for number in (c, layers.squeeze.out_channels)]
    return (
        0 < b <= fused_block.MOST_SAMPLES
        and 1 < h * w < 2**30  # for the number 1 Triton compiles other code, which no trial would see
        and c <= fused_block.MOST_CHANNELS
        and rounded[0] * rounded[1] <= fused_block.MOST_WEIGHTS
    )


def _is_sound(form: Form) -> bool:
    if form not in _trials.faults:
        if _cannot_be_tried_now(form.device):
            return False
        with _trials.lock:  # threads of DataParallel
            if form not in _trials.faults:
                _trials.faults[form] = _tried(form)
    return _trials.faults[form] is None


def _cannot_be_tried_now(device: torch.device) -> bool:
    """While a CUDA graph is captured, which must not be waited for; and inside a backward pass, as in the recomputation
    of a reentrant checkpoint: its thread would wait for the trial, whose own backward pass needs that thread.
    """
    if torch._C._current_autograd_node() is not None:  # pyright: ignore
        return True
    return device.type == 'cuda' and torch.cuda.is_current_stream_capturing()


def _tried(form: Form) -> str | None:
    """Tries a form in a thread of its own: autograd's modes and hooks, autocast and the current stream are a thread's,
    and a trial must neither follow nor disturb those of the network that is running.
    """
    found: list[str | None] = []

    def run() -> None:
        try:
            found.append(trial(form))
        except Exception as error:  # a compiler may raise any
            text = str(error).strip()
            found.append(f'{type(error).__name__}: {text.splitlines()[-1] if text else "no message"}')

    thread = threading.Thread(target=run, name='trial of the fused block')
    thread.start()
    thread.join()
    (cause,) = found
    if cause is not None and cause not in _trials.warned:
        _trials.warned.add(cause)
        warnings.warn(
            f'The fused form of the attention block cannot be used on {form.device} in {form.dtype}; the plain form is '
            f'used, which is slower. Cause: {cause}. With {SWITCH}=0 in the environment it is not tried.',
            RuntimeWarning,
            stacklevel=2,
        )
    return cause
