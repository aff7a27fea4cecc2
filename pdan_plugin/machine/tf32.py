"""TF32: whether float32 convolutions and matrix products round their inputs to 10 bits.

From torch 2.9 on there are two interfaces for it: the older flags `allow_tf32`, and `fp32_precision` for every
operation, which inherits from a global one where nothing was set. If a program has used the newer interface, the older
flags cannot be read, and setting them does not reach convolutions. So every operation is set by the newer interface
where torch has it, and the older flags get the same value.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

_backends: Any = torch.backends


@dataclass
class _State:
    """The settings of a process.

    Attributes:
        flags: The older flags of convolutions and of matrix products; None where one cannot be read.
        precisions: `fp32_precision` of each operation; empty where torch has no such interface.
    """

    flags: list[bool | None] = field(default_factory=list[bool | None])
    precisions: list[str] = field(default_factory=list[str])


def allow_tf32(allowed: bool) -> None:
    """Lets CUDA convolutions and matrix products of float32 tensors use TF32, or not, until the next call."""
    _backends.cudnn.allow_tf32 = allowed
    _backends.cuda.matmul.allow_tf32 = allowed
    for operation in _operations():  # the flags do not reach an operation that inherits from the global precision
        operation.fp32_precision = 'tf32' if allowed else 'ieee'


def is_tf32_allowed() -> bool:
    """Whether convolutions may use TF32."""
    operations = _operations()
    if operations:
        return operations[0].fp32_precision == 'tf32'
    return bool(_backends.cudnn.allow_tf32)


_lock = threading.Lock()
_inside = 0
_before = _State()


@contextmanager
def full_float32() -> Generator[None]:
    """Inside the block float32 is computed in float32, on CUDA and on a CPU, whose oneDNN can round it too.

    The setting belongs to the process: with blocks in several threads it holds until the last one ends, and is then
    what it was before the first one.
    """
    global _inside, _before
    with _lock:
        if _inside == 0:
            _before = _state()
            allow_tf32(False)
            for operation in _operations_on_cpu():
                operation.fp32_precision = 'ieee'
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore(_before)


def _operations() -> list[Any]:
    """CUDA's operations that have their own `fp32_precision`: convolution, recurrent cells, matrix product."""
    if not hasattr(getattr(_backends.cudnn, 'conv', None), 'fp32_precision'):
        return []
    return [_backends.cudnn.conv, _backends.cudnn.rnn, _backends.cuda.matmul]


def _operations_on_cpu() -> list[Any]:
    owners = [getattr(_backends.mkldnn, name, None) for name in ('conv', 'rnn', 'matmul')]
    return [owner for owner in owners if hasattr(owner, 'fp32_precision')]


def _state() -> _State:
    state = _State(precisions=[each.fp32_precision for each in (*_operations(), *_operations_on_cpu())])
    for owner in (_backends.cudnn, _backends.cuda.matmul):
        flag: bool | None = None
        with contextlib.suppress(RuntimeError):  # a program set the newer interface alone
            flag = bool(owner.allow_tf32)
        state.flags.append(flag)
    return state


def _restore(state: _State) -> None:
    for owner, flag in zip((_backends.cudnn, _backends.cuda.matmul), state.flags, strict=True):
        if flag is not None:
            owner.allow_tf32 = flag
    for operation, precision in zip((*_operations(), *_operations_on_cpu()), state.precisions, strict=True):
        operation.fp32_precision = 'none'
        if operation.fp32_precision != precision:  # else it inherits, and follows later changes of the global one
            operation.fp32_precision = precision
