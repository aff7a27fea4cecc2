"""The fused attention block: its kernels in Triton's interpreter and its compiler, and the plain form where it fails.

No test here runs it on a GPU; `scripts/gpu_acceptance.py` does.
"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import fused_block_cases
import fused_block_pieces
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from pdan_plugin import archs
from pdan_plugin.archs import fused_choice
from pdan_plugin.archs.fused_trial import Form
from pdan_plugin.archs.pdan_arch import AttentionBlock

REPOSITORY = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / 'scripts')])
QUICK = [name for name in fused_block_cases.CASES if name not in fused_block_cases.LONG]


def interpreted(names):
    """{name of a case: None or a traceback}, from a Python in which Triton interprets its kernels."""
    pytest.importorskip('triton', reason='Triton is not installed: pip install triton')
    done = subprocess.run(
        [sys.executable, fused_block_cases.__file__, *names], capture_output=True, text=True, timeout=600,
        env=os.environ | {'PYTHONPATH': PATHS, 'OMP_NUM_THREADS': '1', 'TRITON_INTERPRET': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def outcomes():
    return interpreted(QUICK)


@pytest.mark.parametrize('name', QUICK)
def test_interpreted(name, outcomes):
    assert outcomes[name] is None, outcomes[name]


@pytest.mark.long
def test_interpreted_in_more_forms():
    failed = {name: outcome for name, outcome in interpreted(fused_block_cases.LONG).items() if outcome is not None}
    assert not failed, '\n'.join(failed.values())


# --- the compiler, which needs no GPU ---------------------------------------------------------------------------------

MAPS = {'features', 'gradient', 'features_gradient', 'branch', 'x', 'result', 'branch_gradient'}


def compiled(name, backend, architecture, tmp_path, monkeypatch, *, dtype='bf16', channels=128, squeezed=8, last=True):
    """A kernel as machine code, for 32-bit weights."""
    triton = pytest.importorskip('triton', reason='Triton is not installed: pip install triton')
    from triton.backends.compiler import GPUTarget

    from pdan_plugin.archs import fused_kernels

    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))  # else a kernel is compiled once on this machine
    kernel = getattr(fused_kernels, name)
    block = triton.next_power_of_2(channels)
    constants = {
        'C': channels, 'R': squeezed, 'BLOCK_C': block, 'BLOCK_R': triton.next_power_of_2(squeezed),
        'BLOCK_P': 4096 // block, 'LAST': last, 'SPATIAL': True, 'BLOCK_PARTS': 16,
    }  # fmt: skip
    signature = {}
    for each in kernel.arg_names:
        if each not in constants:
            signature[each] = 'i32' if each in ('size', 'parts', 'samples') else f'*{dtype if each in MAPS else "fp32"}'
        elif triton.__version__ >= '3.3':
            signature[each] = 'constexpr'
    used = {each: value for each, value in constants.items() if each in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, used)
    target = GPUTarget(backend, architecture, 64 if backend == 'hip' else 32)
    return triton.compile(source, target=target, options={'num_warps': 4}).asm


@pytest.mark.parametrize('name', fused_block_pieces.KERNELS)
def test_each_kernel_compiles_for_a_gpu(name, tmp_path, monkeypatch):
    assert compiled(name, 'cuda', 80, tmp_path, monkeypatch)['cubin']


@pytest.mark.long
@pytest.mark.parametrize('name', fused_block_pieces.KERNELS)
def test_each_kernel_compiles_for_other_gpus_and_forms(name, tmp_path, monkeypatch):
    assert compiled(name, 'cuda', 75, tmp_path, monkeypatch, dtype='fp16', last=False)['cubin']
    assert compiled(name, 'cuda', 90, tmp_path, monkeypatch, channels=250, squeezed=25)['cubin']
    assert compiled(name, 'cuda', 90, tmp_path, monkeypatch, dtype='fp32', channels=60, squeezed=1)['cubin']
    assert compiled(name, 'hip', 'gfx942', tmp_path, monkeypatch)['hsaco']


# --- without it -------------------------------------------------------------------------------------------------------


def test_without_triton_or_a_driver_the_plain_form_is_used_and_the_cause_named(monkeypatch):
    """With Triton but a CPU in place of the GPU, Triton itself fails to launch."""
    block, x = AttentionBlock(12, 2, 'rsca'), torch.randn(1, 12, 7, 5)
    expected = block(x)
    monkeypatch.setattr(fused_choice, 'DEVICE_TYPES', ('cpu',))
    causes = []
    for is_installed in (True, False):
        if not is_installed:
            monkeypatch.setitem(sys.modules, 'triton', None)
            monkeypatch.delitem(sys.modules, 'pdan_plugin.archs.fused_kernels', raising=False)
            monkeypatch.delattr(archs, 'fused_kernels', raising=False)
        monkeypatch.setattr(fused_choice, '_trials', fused_choice._Trials())
        with pytest.warns(RuntimeWarning) as warned:
            assert torch.equal(block(x), expected)
        causes.append(str(warned[0].message).partition('Cause: ')[2])
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert torch.equal(block(x), expected)
    assert causes[0]
    assert 'triton' in causes[1]


def test_nothing_is_tried_while_a_cuda_graph_is_captured(monkeypatch):
    """A mock of the capture, which needs a GPU: a trial waits for its results, and that would end it with an error."""
    form = Form(torch.device('cuda', 0), torch.float32, torch.float32, 12, 6, True, torch.channels_last, True)
    monkeypatch.setattr(fused_choice, '_trials', fused_choice._Trials())
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    tried = []
    monkeypatch.setattr(fused_choice, 'trial', tried.append)
    assert not fused_choice._is_sound(form)
    assert tried == []
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    assert fused_choice._is_sound(form)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    assert fused_choice._is_sound(form)
    assert tried == [form]


# --- what it saves ----------------------------------------------------------------------------------------------------


class _MapsMoved(TorchDispatchMode):
    """Counts operations, other than the two large convolutions, and the feature maps that they read and write."""

    def __init__(self, shape):
        super().__init__()
        self.shape, self.operations, self.maps = shape, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        read = {id(each) for each in self._maps([args, {k: v for k, v in (kwargs or {}).items() if k != 'out'}])}
        written = self._maps(result)
        is_large = func.__name__.startswith('convolution') and len(read) == 1 + ('backward' in func.__name__)
        is_large = is_large and bool(written)
        if not (func.is_view or is_large or 'empty' in func.__name__):
            self.operations += 1
            self.maps += len(read) + len(written)
        return result

    def _maps(self, values):
        """Those in memory; not a view of one number for each channel."""
        tensors = [each for each in tree_flatten(values)[0] if isinstance(each, torch.Tensor)]
        return [each for each in tensors if each.shape == self.shape and 0 not in each.stride()]


@pytest.mark.parametrize(('attention', 'maps', 'operations'), [('rsca', (13, 24), (10, 16)), ('ca', (12, 16), (8, 11))])
def test_what_the_plain_form_moves(attention, maps, operations):
    """The fused form moves 6 and 10 maps in 4 and 7 operations: see `the_counts_of_launches_and_maps`."""
    block = AttentionBlock(16, 4, attention).to(memory_format=torch.channels_last)
    x = torch.randn(2, 16, 24, 20).contiguous(memory_format=torch.channels_last).requires_grad_()
    gradient = torch.randn_like(x)
    with _MapsMoved(x.shape) as forward:
        result = block(x)
    with _MapsMoved(x.shape) as backward:
        result.backward(gradient)
    # on CUDA the two convolutions add their bias in a pass of its own, and sum its gradient in another
    assert (forward.maps + 2 * 2, backward.maps + 2) == maps
    assert (forward.operations, backward.operations) == operations
