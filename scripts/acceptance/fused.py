"""The fused form of the attention block against the plain form: results and gradients, with float64 as the judge.

TRITON_INTERPRET=1 python -m acceptance.fused       in scripts/: on the CPU, in Triton's interpreter; prints JSON
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

if __name__ == '__main__':
    sys.modules['basicsr'] = None  # pyright: ignore[reportArgumentType] (the networks need torch alone)

import torch
from torch import Tensor

from acceptance.checks import Check, NotRun, Outcome, Setting
from pdan_plugin.archs import fused_block, fused_choice, fused_trial
from pdan_plugin.archs.pdan_arch import AttentionBlock

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_LAYOUTS = {'contiguous': torch.contiguous_format, 'channels-last': torch.channels_last}
_SCRIPTS = Path(__file__).parents[1]


def checks() -> list[Check]:
    return [
        Check(
            'fused block',
            'it is used, and as near to float64 as the plain block: at most 2.5 times its error, in all gradients',
            _fused,
        )
    ]


@contextmanager
def plain_form() -> Generator[None]:
    """Inside, attention blocks take their plain form on every device."""
    before = os.environ.get(fused_choice.SWITCH)
    os.environ[fused_choice.SWITCH] = '0'
    try:
        yield
    finally:
        if before is None:
            del os.environ[fused_choice.SWITCH]
        else:
            os.environ[fused_choice.SWITCH] = before


def share_of_tolerance(
    device: torch.device, dtype: torch.dtype, layout: torch.memory_format, attention: str, shape: tuple[int, ...],
    squeeze: int,
) -> tuple[float, str]:  # fmt: skip
    """How far the fused block is from float64, forward and backward, as a share of what is allowed; of which tensor.

    Allowed is 2.5 times the error of the plain block: other roundings, of which Triton's interpreter cuts those to
    bfloat16 off. A weight's gradient may be as far as that of any weight, because a single number is near by chance.

    Raises:
        RuntimeError: The block did not take its fused form.
    """
    torch.manual_seed(0)
    block = AttentionBlock(shape[1], squeeze, attention).to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    with torch.no_grad():  # far enough from 0 that both sides of the sigmoids and ReLUs are used
        for parameter in block.parameters():
            parameter.mul_(3)
    x, gradient = (torch.randn(shape).to(device, dtype).contiguous(memory_format=layout) for _ in range(2))
    with plain_form():
        exact = block_results(copy.deepcopy(block).double(), x.double(), gradient.double(), fused=False)
        plain = block_results(block, x, gradient, fused=False)
    fused = block_results(block, x, gradient, fused=True)

    def errors(results: dict[str, Tensor]) -> dict[str, float]:
        scales = {name: value.abs().max().clamp_min(1e-30) for name, value in exact.items()}
        return {
            name: float((results[name].double() - value).abs().max() / scales[name]) for name, value in exact.items()
        }

    own, other = errors(fused), errors(plain)
    of_weights = max(error for name, error in other.items() if name not in ('result', 'x'))
    for name, value in plain.items():
        found = fused[name]
        if found.dtype != value.dtype or (name != 'x' and found.stride() != value.stride()):
            raise RuntimeError(f'{name}: {found.dtype} of strides {found.stride()}, not as in the plain form')
    allowed = {name: 2.5 * (other[name] if name in ('result', 'x') else of_weights) + 3e-6 for name in exact}
    # NaN compares as larger
    return max((own[name] / allowed[name] if own[name] == own[name] else float('inf'), name) for name in exact)


def block_results(block: AttentionBlock, x: Tensor, gradient: Tensor, *, fused: bool) -> dict[str, Tensor]:
    """The result, and the gradients of x and of all parameters; convolutions compute in the format of x.

    Raises:
        RuntimeError: The block took the other form than the one that is asked for.
    """
    block, x = copy.deepcopy(block), x.clone().requires_grad_()
    kind, dtype = x.device.type, x.dtype
    autocast = torch.autocast(kind, dtype) if dtype in (torch.float16, torch.bfloat16) else nullcontext()
    with autocast, launched() as names:
        result = block(x)
    if bool(names) != fused:
        raise RuntimeError(f'the {"plain" if fused else "fused"} form was used')
    result.backward(gradient)
    found = {'result': result.detach(), 'x': x.grad}
    found |= {name: each.grad for name, each in block.named_parameters()}
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def launched() -> Iterator[list[str]]:
    """The names of the fused block's kernels that this thread launches inside: those of a trial are not counted."""
    names: list[str] = []
    launch, thread = fused_block.launch, threading.current_thread()

    def counting(kernel: Any, *arguments: Any, **constants: Any) -> None:
        if threading.current_thread() is thread:
            names.append(kernel.__name__)
        launch(kernel, *arguments, **constants)

    fused_block.launch = counting
    try:
        yield names
    finally:
        fused_block.launch = launch


def _shares(device: torch.device, *, is_small: bool) -> dict[str, float]:
    """{format, layout, attention and shape: share of the tolerance}."""
    shapes = (
        [((1, 12, 5, 7), 3)] if is_small else [((4, 128, 64, 64), 16), ((1, 64, 181, 323), 16), ((3, 60, 33, 47), 4)]
    )
    shares: dict[str, float] = {}
    for name, dtype in _DTYPES.items():
        for layout_name, layout in _LAYOUTS.items():
            for attention in ('rsca', 'ca'):
                for shape, squeeze in shapes:
                    share, tensor = share_of_tolerance(device, dtype, layout, attention, shape, squeeze)
                    sizes = 'x'.join(map(str, shape))
                    shares[f'{name}, {layout_name}, {attention}, {sizes} ({tensor})'] = share
    return shares


def _fused(setting: Setting) -> Outcome:
    shares = _shares(setting.device, is_small=False) if setting.device.type == 'cuda' else _interpreted()
    worst = max(shares, key=lambda name: shares[name])
    where = '' if setting.device.type == 'cuda' else " in Triton's interpreter"
    return Outcome(
        shares[worst] <= 1,
        f'{len(shares)} forms{where}; the worst, {worst}, uses {shares[worst]:.0%} of its tolerance',
        {'share_of_tolerance': shares},
    )


def _interpreted() -> dict[str, float]:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    if importlib.util.find_spec('triton') is None:
        raise NotRun('not run: Triton, whose interpreter runs the kernels on a CPU, is not installed')
    done = subprocess.run(
        [sys.executable, '-m', 'acceptance.fused'], cwd=_SCRIPTS, capture_output=True, text=True, check=False,
        env=os.environ | {'TRITON_INTERPRET': '1', 'PYTHONPATH': str(_SCRIPTS.parent)},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no message')
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
    fused_choice.DEVICE_TYPES = ('cpu',)
    fused_trial.SIZES = ((1, 3, 5),)  # the interpreter is slow
    print(json.dumps(_shares(torch.device('cpu'), is_small=True)))
