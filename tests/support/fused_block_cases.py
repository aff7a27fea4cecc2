"""What test_fused_block.py tries of the fused attention block, in one process with Triton's interpreter.

Triton reads TRITON_INTERPRET when it is imported, so these run in a Python of their own:

    TRITON_INTERPRET=1 python tests/support/fused_block_cases.py [NAME ...]

prints {name of the case: None or a traceback} as JSON. The interpreter runs the kernels' own code in NumPy.
"""

import json
import sys
import tempfile
import traceback
import warnings
from unittest import mock

if __name__ == '__main__':
    sys.modules['basicsr'] = None  # the networks need torch alone, and the toolbox takes seconds

import fused_choice_cases  # noqa: F401 - adds its cases
import pytest
import torch
from fused_block_pieces import (
    CASES,
    CPU,
    DTYPES,
    LAYOUTS,
    attention_block,
    case,
    close,
    cpu_as_cuda,
    results,
    small_pdan,
)
from torch import nn

from acceptance.fused import launched, share_of_tolerance
from pdan_plugin.archs import fused_block, fused_trial

# --- results and gradients --------------------------------------------------------------------------------------------


def _compared(dtype, layout, attention, shape, squeeze):
    def run():
        with cpu_as_cuda():
            share, tensor = share_of_tolerance(CPU, DTYPES[dtype], LAYOUTS[layout], attention, shape, squeeze)
        assert share <= 1, f'{tensor} uses {share:.0%} of its tolerance'

    size = 'x'.join(map(str, shape))
    run.__name__ = f'{attention} in {dtype}, {layout}, {size}, squeezed by {squeeze}'
    case(run)


_compared('fp32', 'nchw', 'rsca', (3, 20, 13, 23), 5)  # several tiles, and several parts of each sum
_compared('fp32', 'nhwc', 'rsca', (1, 20, 13, 23), 5)
_compared('fp16', 'nhwc', 'rsca', (3, 20, 9, 7), 20)
_compared('bf16', 'nchw', 'rsca', (1, 12, 9, 7), 2)
_compared('bf16', 'nhwc', 'ca', (3, 16, 9, 7), 16)
_compared('fp32', 'nchw', 'rsca', (1, 16, 1, 2), 16)
QUICK = list(CASES)
for _dtype in DTYPES:
    for _layout in LAYOUTS:
        for _attention in ('rsca', 'ca'):
            for _shape, _squeeze in (((1, 12, 5, 7), 2), ((2, 16, 40, 32), 16), ((3, 48, 17, 33), 1)):
                _compared(_dtype, _layout, _attention, _shape, _squeeze)
_compared('fp32', 'nhwc', 'rsca', (1, 128, 45, 33), 16)  # more parts than are added at once
_compared('bf16', 'nchw', 'rsca', (1, 250, 9, 11), 10)
LONG = [name for name in CASES if name not in QUICK]


@case
def repeats_to_the_bit():
    block = attention_block(20, 4, 'rsca', torch.channels_last)
    x, gradient = torch.randn(1, 20, 13, 23), torch.randn(1, 20, 13, 23)
    one, other = (results(block, x, gradient, fused=True) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@case
def without_gradients_the_bits_are_the_same_and_x_is_kept():
    block = attention_block(20, 4, 'rsca', torch.channels_last)
    x = torch.randn(2, 20, 13, 11).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    with cpu_as_cuda():
        expected = block(x)
        for context in (torch.no_grad(), torch.inference_mode()):
            with context, launched() as names:
                assert torch.equal(block(x), expected)
            assert 'add_gated' in names
    assert torch.equal(x, before)


@case
def not_a_number_is_passed_on():
    """A ReLU by a maximum would turn it into 0, and hide a diverging run from the gradient guard."""
    features = torch.full((1, 4, 3, 5), float('nan'))
    assert fused_block.biased_relu(features, torch.zeros(4)).isnan().all()
    block = attention_block(16, 4, 'rsca', torch.contiguous_format)
    x = torch.randn(1, 16, 5, 7)
    x[0, 3, 2, 2] = float('nan')
    with cpu_as_cuda():
        x.requires_grad_()
        result = block(x)
    assert result.isnan().all()  # through the mean
    result.backward(torch.ones_like(result))
    assert block.conv1.weight.grad.isnan().all()


@case
def nothing_is_written_beside_the_maps():
    for layout in LAYOUTS.values():
        for side in (0, 1):
            around = torch.full((64 + 2 * 3 * 7 * 5 + 64,), 5.0)
            branch = around[64:-64].view(2, 3, 7, 5) if side else around[64:-64].view(2, 7, 5, 3).permute(0, 3, 1, 2)
            assert branch.is_contiguous(memory_format=layout) or branch.is_contiguous() != (layout != LAYOUTS['nhwc'])
            branch.copy_(torch.randn(2, 3, 7, 5))
            layers = attention_block(3, 3, 'rsca', layout)._own_layers()
            with torch.no_grad():
                fused_block.biased_relu(branch, layers.conv1.bias)
                fused_block.gated_branch(torch.randn(2, 3, 7, 5), branch, layers.conv2.bias, layers)
            assert (around[:64] == 5).all()
            assert (around[-64:] == 5).all()


@case
def nothing_is_written_beside_the_gradients():
    """Every new tensor lies between two guards."""
    guards, empty_like = [], torch.empty_like

    def guarded(like, **arguments):
        if arguments:  # torch's own calls
            return empty_like(like, **arguments)
        around = torch.full((like.numel() + 64,), 5.0, dtype=like.dtype)
        guards.append(around)
        return around.as_strided(like.shape, like.stride(), 32)

    block = attention_block(12, 2, 'rsca', torch.channels_last)
    x, gradient = (torch.randn(2, 12, 7, 5).contiguous(memory_format=torch.channels_last) for _ in range(2))
    expected = results(block, x, gradient, fused=True)
    with mock.patch.object(torch, 'empty_like', guarded):
        found = results(block, x, gradient, fused=True)
    assert len(guards) > 10
    assert all((each[:32] == 5).all() and (each[-32:] == 5).all() for each in guards)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@case
def gradients_in_other_layouts():
    """An expanded one, such as a sum's, and one in the other layout."""
    block = attention_block(12, 2, 'rsca', torch.channels_last)
    x = torch.randn(1, 12, 7, 5).contiguous(memory_format=torch.channels_last)
    for gradient in (torch.ones(()).expand(1, 12, 7, 5), torch.randn(1, 12, 7, 5)):
        plain, fused = (results(block, x, gradient, fused=fused) for fused in (False, True))
        for name in plain:
            close(fused[name], plain[name])


@case
def features_and_gradients_that_begin_anywhere():
    block = attention_block(12, 2, 'rsca', torch.contiguous_format)
    x, gradient = (torch.randn(12 * 35 + 1)[1:].view(1, 12, 7, 5) for _ in range(2))
    assert x.data_ptr() % 16
    plain, fused = (results(block, x, gradient, fused=fused) for fused in (False, True))
    addresses, launch = [], fused_block.launch

    def watching(kernel, grid, device, *arguments, **constants):
        maps = [each for each in arguments if isinstance(each, torch.Tensor) and each.shape == x.shape]
        addresses.extend(each.data_ptr() for each in maps)
        launch(kernel, grid, device, *arguments, **constants)

    with cpu_as_cuda(), mock.patch.object(fused_block, 'launch', watching):
        block(x).backward(gradient)
    assert addresses
    assert not any(each % 16 for each in addresses)
    for name in plain:
        close(fused[name], plain[name])


@case
def only_what_is_trained_gets_a_gradient():
    for trained in ('x', 'conv2.bias', 'spatial_gate.project.weight'):
        block = attention_block(12, 2, 'rsca', torch.channels_last).requires_grad_(False)
        wanted = {'x': torch.randn(1, 12, 7, 5), **dict(block.named_parameters())}
        wanted[trained].requires_grad_()
        plain = torch.autograd.grad(block(wanted['x']).square().sum(), wanted[trained])[0]
        with cpu_as_cuda(), launched() as names:
            fused = torch.autograd.grad(block(wanted['x']).square().sum(), wanted[trained])[0]
        close(fused, plain)
        assert 'add_gated' in names


@case
def second_derivatives_raise():
    block = attention_block(12, 2, 'rsca', torch.channels_last)
    x = torch.randn(2, 12, 7, 5, requires_grad=True)
    with cpu_as_cuda():
        result = block(x)
    # a sum's gradient needs no gradient itself, which torch's once_differentiable does not notice
    with pytest.raises(RuntimeError, match='PDAN_FUSED_GATES=0'):
        torch.autograd.grad(result.sum(), x, create_graph=True)


# --- the whole network ------------------------------------------------------------------------------------------------


def _network_gradients(network, picture):
    network.zero_grad()
    network(picture).square().sum().backward()
    return {name: each.grad.clone() for name, each in network.named_parameters()}


@case
def checkpointing_recomputes_the_fused_form():
    """Also in the first pass, in which the trial runs: its tensors must not count among the network's."""
    picture = torch.rand(1, 3, 9, 11)
    expected = _network_gradients(small_pdan().train(), picture)
    network = small_pdan(checkpointing=True).train()
    with cpu_as_cuda(fused_trial.trial), launched() as names:
        found = _network_gradients(network, picture)
        assert 'reduce_gradient' in names
        repeated = _network_gradients(network, picture)
    for name in expected:
        close(found[name], expected[name], 1e-4)
        assert torch.equal(found[name], repeated[name])


@case
def under_distributed_data_parallel():
    picture = torch.rand(1, 3, 9, 11)
    expected = _network_gradients(small_pdan(), picture)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), cpu_as_cuda(), launched() as names:
        warnings.simplefilter('error')  # DDP warns of gradients whose strides are not the weights'
        torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/group', rank=0, world_size=1)
        network = small_pdan()
        found = _network_gradients(nn.parallel.DistributedDataParallel(network), picture)
        torch.distributed.destroy_process_group()
    assert 'weight_gradients' in names
    for name in expected:
        close(found[f'module.{name}'], expected[name], 1e-4)


@case
def a_cast_network_as_inference_uses_it():
    """`inference_network` casts the weights of most layers once, and computes under autocast."""
    network = small_pdan().eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for layer in network.modules():
        if type(layer) is nn.Conv2d:
            layer.to(torch.bfloat16)
    picture = torch.rand(1, 3, 9, 11).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16):
        expected = network(picture)
        with cpu_as_cuda(), launched() as names:
            found = network(picture)
    assert names.count('add_gated') == 1
    close(found, expected, 1e-2)


@case
def the_counts_of_launches_and_maps():
    """Four launches forward move 6 maps; backward five launches and a small sum move 7, and autograd's sum of the two
    gradients of x moves 3.
    """
    for attention in ('rsca', 'ca'):
        _count(attention)


def _count(attention):
    block = attention_block(16, 4, attention, torch.channels_last)
    x = torch.randn(1, 16, 24, 20).contiguous(memory_format=torch.channels_last).requires_grad_()
    moved, launch = [], fused_block.launch

    def counting(kernel, grid, device, *arguments, **constants):
        names = {each for each in arguments if isinstance(each, torch.Tensor) and each.shape == x.shape}
        moved.append((kernel.__name__, len(names) + (kernel.__name__ == 'rectify')))  # in place: read and written
        launch(kernel, grid, device, *arguments, **constants)

    with cpu_as_cuda(), mock.patch.object(fused_block, 'launch', counting):
        result = block(x)
        forward, moved = moved, []
        result.backward(torch.randn_like(result))
    assert forward == [('rectify', 2), ('reduce_branch', 1), ('channel_gates', 0), ('add_gated', 3)]
    assert moved == [
        ('reduce_gradient', 2), ('channel_gates_backward', 0), ('branch_gradients', 2), ('weight_gradients', 0),
        ('rectify_backward', 3),
    ]  # fmt: skip


def main(names):
    outcomes = {}
    for name in names or CASES:
        try:
            torch.manual_seed(0)
            CASES[name]()
            outcomes[name] = None
        except (Exception, pytest.fail.Exception):
            outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == '__main__':
    main(sys.argv[1:])
