"""Training shared by two gloo ranks: parts of a batch, a NaN on one of them, and the state of both."""

import logging

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from gloo_ranks import answers_of_ranks

from pdan_plugin.models import guarded_step
from pdan_plugin.training.checkpoints import read_state


def pictures(rank):
    generator = torch.Generator().manual_seed(rank)
    gt = torch.rand(4, 3, 32, 32, generator=generator)
    names = [f'{rank:03d}/{index:08d}' for index in range(4)]
    return {'lq': gt[..., ::4, ::4].contiguous(), 'gt': gt, 'lq_path': names}


def train(opt, rank):
    """Three steps, the second with a NaN in rank 1's batch; what became of it."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = get_root_logger()
    logger.addHandler(handler)
    torch.manual_seed(0)
    model = build_model(opt)
    weights = []
    for iteration in (1, 2, 3):
        batch = pictures(rank)
        if iteration == 2 and rank == 1:
            batch['gt'][0, 0, 0, 0] = float('nan')
        torch.rand(rank + 1)  # the ranks' generators part
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        weights.append(model.get_bare_model(model.net_g).conv_first.weight.detach().clone())
    model.save(0, 3)
    told = [line for line in lines if 'Iteration 2: ' in line]
    stayed = [torch.equal(weights[0], weights[1]), torch.equal(weights[1], weights[2])]
    return *stayed, weights[2].tolist(), told


def train_and_read_late(opt, rank):
    """The same by the protocol of CUDA and nccl, on a CPU: the ranks exchange the flag, and read it a step late."""
    guarded_step.skips_by_flag = lambda optimizers: True
    guarded_step.reduces_on_device = lambda device: True
    return train(opt, rank)


@pytest.mark.parametrize(('work', 'accumulation_steps'), [(train, 1), (train, 2), (train_and_read_late, 2)])
def test_two_ranks_skip_together_and_stay_the_same(model_opt, tmp_path, work, accumulation_steps):
    schedule = {'type': 'ReduceLROnPlateau', 'window': 10}
    opt = model_opt(
        'RestorationModel', 'EDSR', ema_decay=0.9, accumulation_steps=accumulation_steps, scheduler=schedule
    )
    (skipped, stuck, weights, told), (*other, others_weights, _) = answers_of_ranks(work, 2, tmp_path, opt)
    assert [skipped, stuck] == other == [True, False]
    assert weights == others_weights
    assert len(told) == 1  # by rank 0, for both
    assert ' rank 1:\n  losses: l_pix nan\n' in told[0]
    assert 'gt itself holds values that are not finite: 001/00000000' in told[0]

    state = read_state(f'{opt["path"]["training_states"]}/3.state')
    assert len(state['random']) == 2
    assert not torch.equal(state['random'][0]['torch'], state['random'][1]['torch'])
    assert state['schedulers'][0]['loss_count'] == 2
    sums = state['schedulers'][0]['loss_sums']  # each rank's own, which it goes on from
    assert len(sums) == 2
    assert sums[0] != sums[1]


def test_two_ranks_take_the_steps_of_one_with_both_batches(model_opt, tmp_path):
    """DistributedDataParallel averages what `no_sync` has kept apart: parts and ranks give the whole batch's step."""
    opt = model_opt('RestorationModel', 'EDSR', accumulation_steps=2, optim_g={'type': 'Adam', 'lr': 1e-3})
    gradients = answers_of_ranks(one_step, 2, tmp_path, opt)
    batches = [pictures(rank) for rank in (0, 1)]
    whole = {key: torch.cat([batch[key] for batch in batches]) for key in ('lq', 'gt')}
    opt['train']['accumulation_steps'] = 1
    expected = torch.tensor(gradient_of_a_step(opt, whole))
    for gradient in map(torch.tensor, gradients):
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6 * float(expected.abs().max()))


def gradient_of_a_step(opt, batch):
    torch.manual_seed(0)
    model = build_model(opt)
    model.feed_data(batch)
    model.optimize_parameters(1)
    return model.get_bare_model(model.net_g).conv_after_body.weight.grad.tolist()


def one_step(opt, rank):
    return gradient_of_a_step(opt, pictures(rank))
