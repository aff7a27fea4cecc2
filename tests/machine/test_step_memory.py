"""The memory of a training step, found without computing it, is what torch allocates when it is computed."""

import pytest
import torch
from plain_networks import Plain, WantsNumbers
from torch import nn
from torch.profiler import ProfilerActivity, profile

from pdan_plugin.archs import PDAN
from pdan_plugin.machine.network_size import count_parameters
from pdan_plugin.machine.step_memory import step_memory


def small_pdan(**further):
    settings = {'num_feat': 32, 'num_group': 2, 'num_block': 3, 'fuse_levels': 2, 'deblur_branch': False}
    return PDAN(**(settings | further))


def test_what_the_backward_pass_needs_is_what_the_operations_keep():
    step = step_memory(Plain(), (8, 3, 64, 64))
    # the convolution's input, the output of ReLU, and the network's output
    assert step.kept == 8 * 64 * 64 * (3 + 4 + 4) * 4
    assert not step.is_scaled
    # then the loss's gradient: the mean's, the sign, and their product, each of the output's size, and some scalars
    assert step.peak == pytest.approx(step.kept + 3 * 8 * 64 * 64 * 4 * 4, abs=100)


@pytest.mark.parametrize('checkpointing', [False, True])
def test_it_is_what_torch_allocates(checkpointing):
    network = small_pdan(checkpointing=checkpointing).to(memory_format=torch.channels_last)
    shape = (2, 3, 48, 48)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        inputs = torch.rand(*shape).to(memory_format=torch.channels_last)
        output = network(inputs)
        output.abs().mean().backward()
    used = peak = 0
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        peak = max(peak, used)
    assert step_memory(network, shape, channels_last=True).peak == pytest.approx(peak, rel=0.1)


def test_checkpointing_needs_less():
    plain, checkpointed = (
        step_memory(small_pdan(num_block=10, checkpointing=on), (2, 3, 32, 32)) for on in (False, True)
    )
    assert checkpointed.kept < plain.kept / 3
    assert checkpointed.peak < plain.peak * 0.75


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_half_precision_keeps_half(precision):
    single, half = (step_memory(small_pdan(), (4, 3, 32, 32), each) for each in ('fp32', precision))
    assert half.kept == pytest.approx(single.kept / 2, rel=0.2)


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_each_sample_adds_the_same(precision):
    three, seven = (step_memory(small_pdan(), (count, 3, 32, 32), precision) for count in (3, 7))
    assert seven.peak == pytest.approx(three.peak + 4 * three.per_sample, rel=0.001)


def test_gradients_of_an_earlier_part_stay():
    network = small_pdan()
    first, later = (step_memory(network, (2, 3, 32, 32), accumulates=on) for on in (False, True))
    gradients = 4 * count_parameters(network)
    assert gradients * 0.9 < later.peak - first.peak <= gradients


def test_the_batch_s_other_pictures_count():
    without, with_target = (
        step_memory(small_pdan(), (2, 3, 32, 32), pictures=pictures) for pictures in ([], [(2, 3, 128, 128)])
    )
    assert with_target.peak - without.peak == 2 * 3 * 128 * 128 * 4


def test_the_deblurring_branch_is_run():
    alone, both = (step_memory(small_pdan(deblur_branch=on), (2, 3, 32, 32)) for on in (False, True))
    assert both.kept > alone.kept * 1.05


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_network_that_needs_numbers_is_computed_small_and_scaled(precision):
    shape, target = (8, 3, 96, 96), (8, 3, 192, 192)
    scaled = step_memory(WantsNumbers(), shape, precision, pictures=[target])
    assert scaled.is_scaled
    # its last multiplication makes one more tensor of the output's size
    assert scaled.kept == pytest.approx(
        step_memory(Plain(), shape, precision, pictures=[target]).kept, abs=1.1 * 8 * 96 * 96 * 4 * 4
    )


def test_a_network_that_takes_no_picture_is_left_unmeasured():
    assert step_memory(nn.Linear(7, 7), (1, 3, 8, 8)) is None


@pytest.mark.parametrize('network', [small_pdan(), WantsNumbers()], ids=['PDAN', 'numbers'])
def test_nothing_is_changed(network):
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    generator = torch.get_rng_state()
    step_memory(network, (2, 3, 32, 32), 'bf16', channels_last=True)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not network.training
    assert all(parameter.grad is None and parameter.is_contiguous() for parameter in network.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
