"""When the fused attention block is used and when the plain form: cases of test_fused_block.py.

fused_block_cases.py runs them.
"""

import contextlib
import warnings
from unittest import mock

import pytest
import torch
from fused_block_pieces import CPU, KERNELS, attention_block, case, close, cpu_as_cuda, takes_the_plain_form
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from acceptance.fused import launched, plain_form
from pdan_plugin.archs import fused_block, fused_choice, fused_trial


@case
def the_trial_changes_no_random_numbers_and_no_modes():
    block = attention_block(12, 2, 'rsca', torch.channels_last)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with cpu_as_cuda(fused_trial.trial), torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        block(torch.zeros(1, 12, 5, 7).bfloat16())
        assert len(fused_choice._trials.faults) == 1
        assert torch.is_inference_mode_enabled()
    assert torch.equal(torch.rand(3), expected)


@case
def each_form_is_tried_once():
    block = attention_block(12, 2, 'rsca', torch.channels_last)
    tried = []
    with cpu_as_cuda(lambda form: tried.append(form)):
        for size in ((1, 12, 5, 7), (2, 12, 9, 4)):
            block(torch.zeros(size))
        with torch.no_grad():
            block(torch.zeros(1, 12, 5, 7))
        block.double()(torch.zeros(1, 12, 5, 7).double())
    assert [(form.dtype, form.channels, form.with_gradients) for form in tried] == [
        (torch.float32, 12, True), (torch.float32, 12, False),
    ]  # fmt: skip


@case
def nothing_is_tried_inside_a_backward_pass():
    """A reentrant checkpoint's first pass has no gradients; the other form is first needed inside the backward pass."""
    block, x = attention_block(12, 2, 'rsca', torch.channels_last), torch.randn(1, 12, 7, 5, requires_grad=True)
    tried, gradients = [], []
    for context in (plain_form(), cpu_as_cuda(lambda form: tried.append(form.with_gradients))):
        with context:
            checkpoint(block, x, use_reentrant=True).square().sum().backward()
        gradients.append(x.grad)
        x.grad = None
    assert tried == [False]
    close(*gradients)


@case
def what_watches_or_records_gets_the_plain_form():
    block, x = attention_block(12, 2, 'rsca', torch.channels_last), torch.randn(1, 12, 7, 5)
    with torch.no_grad():
        expected = block(x)

        class Watching(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                names.append(getattr(func, '__name__', ''))
                return func(*args, **(kwargs or {}))

        names = []
        with Watching():
            close(takes_the_plain_form(block, x), expected)
        assert 'mean' in names  # the poolings that tiles share
        seen = []
        for module in (block.conv1, block.channel_gate, block.spatial_gate):
            handle = module.register_forward_hook(lambda *_: seen.append(1))
            close(takes_the_plain_form(block, x), expected)
            handle.remove()
        assert len(seen) == 3
        forms = []
        with cpu_as_cuda(), launched() as names:
            recorded = make_fx(block)(x)
            program = torch.jit.trace(block, x, check_trace=False)
            exported = torch.export.export(block, (x,))
            torch.vmap(lambda each: forms.append(fused_choice.form_of(each, block._own_layers())) or each)(x[None])
        assert (names, forms) == ([], [None])
        for each in (recorded(x), program(x), exported.module()(x)):
            close(each, expected)
        with cpu_as_cuda(), launched() as names:
            block(x)
        assert names == ['rectify', 'reduce_branch', 'channel_gates', 'add_gated']


@case
def other_layers_and_sizes_get_the_plain_form():
    x = torch.randn(1, 12, 7, 5)
    for change in (
        lambda block: setattr(block, 'channel_gate', nn.Sigmoid()),
        lambda block: setattr(block, 'conv2', nn.Conv2d(12, 12, 3, padding=1, bias=False)),
        lambda block: nn.utils.parametrizations.weight_norm(block.conv1),
        lambda block: setattr(block.conv1, 'forward', lambda x: x + 0),
    ):
        block = attention_block(12, 2, 'rsca', torch.channels_last)
        change(block)
        takes_the_plain_form(block, x)
    takes_the_plain_form(attention_block(12, 2, 'rsca', torch.channels_last).double(), x.double())
    takes_the_plain_form(attention_block(12, 2, 'rsca', torch.channels_last), torch.randn(1, 12, 1, 1))
    takes_the_plain_form(attention_block(257, 257, 'rsca', torch.channels_last), torch.randn(1, 257, 3, 2))
    takes_the_plain_form(attention_block(128, 1, 'rsca', torch.channels_last), torch.randn(1, 128, 3, 2))
    with torch.autocast('cpu', torch.bfloat16):  # x is float32, the convolutions are not
        takes_the_plain_form(attention_block(12, 2, 'rsca', torch.channels_last), x)


@case
def the_switch_turns_it_off():
    block, x = attention_block(12, 2, 'rsca', torch.channels_last), torch.randn(1, 12, 7, 5)
    with plain_form():
        takes_the_plain_form(block, x)
    expected = pytest.raises(ValueError, match="PDAN_FUSED_GATES: expected 0 or 1, got 'off'")
    with mock.patch.dict('os.environ', {'PDAN_FUSED_GATES': 'off'}), cpu_as_cuda(), expected:
        block(x)


class _Wrong:
    """A kernel that changes one number of what it writes, or cannot be compiled."""

    def __init__(self, kernel, output=None):
        self.kernel, self.output = kernel, output
        self.__name__ = kernel.__name__

    def __getitem__(self, grid):
        def launched(*arguments, **constants):
            if self.output is None:
                raise RuntimeError('first line\nno C compiler was found')
            self.kernel[grid](*arguments, **constants)
            changed = arguments[self.kernel.arg_names.index(self.output)]
            changed = changed.as_strided((changed.numel(),), (1,))
            changed[-1] = changed[-1] * 1.5 + 0.5

        return launched


@contextlib.contextmanager
def wrong_kernel(name, output):
    kernels = fused_block._kernels()
    with mock.patch.object(kernels, name, _Wrong(getattr(kernels, name), output)):
        yield


@case
def the_trial_notices_a_wrong_kernel():
    form = fused_trial.Form(CPU, torch.bfloat16, torch.float32, 16, 4, True, torch.contiguous_format, True)
    with mock.patch.object(fused_trial, 'SIZES', ((1, 3, 5),)):
        assert fused_trial.trial(form) is None
        for name, output in KERNELS.items():
            with wrong_kernel(name, output):
                assert 'differs from the plain form' in (fused_trial.trial(form) or ''), name


@case
def a_wrong_kernel_leads_to_the_plain_form_and_one_warning():
    block, x = attention_block(12, 2, 'rsca', torch.channels_last), torch.randn(1, 12, 7, 5)
    expected = block(x)
    for output, cause in (('result', 'the result differs'), (None, 'RuntimeError: no C compiler was found')):
        with warnings.catch_warnings(record=True) as caught, cpu_as_cuda(fused_trial.trial):
            warnings.simplefilter('always')
            with wrong_kernel('add_gated', output):
                assert torch.equal(block(x), expected)
                assert torch.equal(block(x), expected)
        (warning,) = caught
        assert cause in str(warning.message)
        assert 'PDAN_FUSED_GATES=0' in str(warning.message)
