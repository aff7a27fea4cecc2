"""What the cases of the fused attention block are made of, and the list of them."""

import contextlib
from unittest import mock

import torch

from acceptance.fused import block_results, launched, plain_form
from pdan_plugin.archs import fused_choice, fused_trial
from pdan_plugin.archs.pdan_arch import PDAN, AttentionBlock

CPU = torch.device('cpu')
LAYOUTS = {'nchw': torch.contiguous_format, 'nhwc': torch.channels_last}
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
KERNELS = {  # the argument that each writes last
    'rectify': 'features', 'rectify_backward': 'sums', 'reduce_branch': 'spatial_gate', 'channel_gates': 'gate',
    'add_gated': 'result', 'reduce_gradient': 'sums', 'channel_gates_backward': 'spread',
    'weight_gradients': 'project_bias', 'branch_gradients': 'branch_gradient',
}  # fmt: skip

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


@contextlib.contextmanager
def cpu_as_cuda(trial=None):
    """A stand-in for a GPU: the choice takes the CPU for one. Trials are made by `trial`, or pass without."""
    with (
        mock.patch.object(fused_choice, 'DEVICE_TYPES', ('cpu',)),
        mock.patch.object(fused_choice, '_trials', fused_choice._Trials()),
        mock.patch.object(fused_choice, 'trial', trial or (lambda form: None)),
        mock.patch.object(fused_trial, 'SIZES', ((2, 3, 5),)),
    ):
        yield


def attention_block(channels, squeeze, attention, layout):
    torch.manual_seed(0)
    return AttentionBlock(channels, squeeze, attention).to(memory_format=layout)


def results(block, x, gradient, *, fused):
    """The result, and the gradients of x and of all parameters."""
    with cpu_as_cuda() if fused else plain_form():
        return block_results(block, x, gradient, fused=fused)


def small_pdan(**options):
    torch.manual_seed(0)
    chosen = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'squeeze_factor': 4, 'fuse_levels': 1, **options}
    return PDAN(deblur_branch=False, **chosen)


def close(one, other, tolerance=1e-5):
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance * float(other.abs().max()))


def takes_the_plain_form(block, x):
    with cpu_as_cuda(), launched() as names:
        result = block(x)
    assert names == []
    return result
