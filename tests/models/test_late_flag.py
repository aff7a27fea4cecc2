"""The protocol of CUDA on a CPU, whose fused optimizers obey a flag too: it is read one step late.

What is pretended is the device alone: the rule that chooses this way says yes to a CPU.
"""

import logging
from copy import deepcopy

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from torch import nn
from torch.utils.data import DataLoader

from pdan_plugin.models import guarded_step
from pdan_plugin.training.checkpoints import read_state
from pdan_plugin.training.gradient_guard import NonFiniteTraining

PLATEAU = {'type': 'ReduceLROnPlateau', 'patience': 2, 'window': 2, 'threshold': 0.5}


@pytest.fixture(autouse=True)
def late(monkeypatch):
    """switch(on): whether the flag is read late; on at first."""

    def switch(on):
        monkeypatch.setattr(guarded_step, 'skips_by_flag', lambda optimizers: on)

    switch(True)
    return switch


@pytest.fixture
def log(caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level(logging.WARNING)
    return caplog


def batch_of(iteration, *, is_bad=False):
    generator = torch.Generator().manual_seed(iteration)
    gt = torch.rand(4, 3, 16, 16, generator=generator)
    lq = gt[..., ::4, ::4].contiguous()
    if is_bad:
        gt[2, 0, 0, 0] = lq[2, 0, 0, 0] = float('nan')
    return {'lq': lq, 'gt': gt, 'lq_path': [f'{iteration:03d}/{index}' for index in range(4)]}


def take(model, iterations, bad=()):
    for iteration in iterations:
        model.update_learning_rate(iteration)
        model.feed_data(batch_of(iteration, is_bad=iteration in bad))
        model.optimize_parameters(iteration)
    return model


def seeded(opt, *, with_statistics=False):
    torch.manual_seed(0)
    model = build_model(opt)
    if with_statistics:
        for network in (model.net_g, model.net_g_ema):
            network.conv_first = nn.Sequential(network.conv_first, nn.BatchNorm2d(16))
        model._statistics = [each for name, each in model.net_g.named_buffers() if 'running_' in name]
    return model


def learned(model):
    """Copies of all that a step changes, by name."""
    result = {}
    for label, network in (('net_g', model.net_g), ('net_g_ema', model.net_g_ema)):
        result |= {f'{label}.{name}': value.clone() for name, value in network.state_dict().items()}
    for index, state in model.optimizer_g.state_dict()['state'].items():
        result |= {f'{index}.{name}': value.clone() for name, value in state.items()}
    # the number of batches that a network has seen counts skipped ones
    return {name: value for name, value in result.items() if not name.startswith('net_g.') or 'tracked' not in name}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize('accumulation_steps', [1, 2])
def test_a_skipped_step_changes_no_bit_and_is_reported_as_itself(model_opt, log, accumulation_steps):
    opt = model_opt(
        'RestorationModel', 'EDSR', ema_decay=0.9, accumulation_steps=accumulation_steps, grad_clip_norm=0.1
    )
    model = take(seeded(opt, with_statistics=True), [1])
    before = learned(model)
    take(model, [2], bad=[2])
    assert_equal(learned(model), before)
    assert (model.guard.skipped, log.text) == (0, '')  # the host does not know yet

    take(model, [3])
    after = learned(model)
    assert all(not torch.equal(after[name], before[name]) for name in after if 'conv_last' in name)
    assert (model.guard.skipped, model.guard.in_a_row) == (1, 1)
    message = log.records[-1].getMessage()
    assert 'Iteration 2: a loss or gradient is not finite, so the step is skipped' in message
    assert 'losses: l_pix nan' in message
    samples = '002/0, 002/1, 002/2, 002/3' if accumulation_steps == 1 else '002/2, 002/3'
    assert f'samples: {samples}\n' in message
    assert 'lq itself holds values that are not finite: 002/2\n' in message
    assert 'gradient not finite: conv_first.0.weight, conv_first.0.bias' in message
    model.settle_last_step()
    assert (model.guard.skipped, model.guard.in_a_row) == (1, 0)


def test_a_run_takes_the_steps_of_one_that_is_read_at_once(model_opt, late, log):
    """Weights and moments to the bit, rates at each step, reports; the average by another formula."""
    results, rates, told = [], [], []
    for on in (False, True):
        late(on)
        model = seeded(model_opt('RestorationModel', 'EDSR', ema_decay=0.9, scheduler=PLATEAU, grad_clip_norm=0.1))
        rates.append([])
        for iteration in range(1, 13):
            take(model, [iteration], bad=[1, 4, 5, 9, 12])
            rates[-1].append(model.get_current_learning_rate())
        model.save(0, 12)
        results.append((learned(model), read_state(f'{model.opt["path"]["training_states"]}/12.state')))
        told.append([record.getMessage() for record in log.records])
        log.clear()
    assert rates[0] == rates[1]
    assert len({rate[0] for rate in rates[0]}) > 1
    assert told[0] == told[1]
    assert len(told[0]) == 5
    (at_once, state), (read_late, late_state) = results
    averages = [name for name in at_once if name.startswith('net_g_ema.')]
    for name in averages:
        torch.testing.assert_close(read_late.pop(name), at_once.pop(name), rtol=1e-5, atol=1e-7)
    assert_equal(at_once, read_late)
    assert state['guard'] == late_state['guard'] == {'in_a_row': 1, 'skipped': 5}
    assert state['schedulers'] == late_state['schedulers']


def test_a_gradient_behind_a_finite_loss_is_named(model_opt, log):
    model = seeded(model_opt('RestorationModel', 'EDSR', ema_decay=0.9))
    handle = model.net_g.conv_last.weight.register_hook(lambda gradient: gradient * float('inf'))
    take(model, [1])
    handle.remove()
    take(model, [2])
    assert 'the losses are finite, the gradient is not' in log.text
    assert 'gradient not finite: conv_last.weight\n' in log.text + '\n'
    assert 'samples: 001/0' in log.text


def test_all_optimizers_skip_if_one_network_has_a_fault(model_opt, log):
    opt = model_opt(
        'DualRegressionModel', 'DRN', dual_opt={'type': 'L1Loss'}, optim_dual={'type': 'Adam', 'lr': 1e-3},
        network_opt={'num_block': 1, 'num_feat': 8},
    )  # fmt: skip
    model = take(seeded(opt), [1])
    networks = model.trained_networks()
    before = {label: deepcopy(network.state_dict()) for label, network in networks.items()}
    parameter = next(networks['net_dual_x1'].parameters())
    parameter.register_hook(lambda gradient: gradient * float('nan'))
    take(model, [2])
    model.settle_last_step()
    assert 'gradient not finite: net_dual_x1.' in log.text
    for label, network in networks.items():
        assert_equal(network.state_dict(), before[label])


def test_too_many_skipped_steps_end_the_training_one_step_late(model_opt):
    model = take(seeded(model_opt('RestorationModel', 'EDSR', ema_decay=0.9, max_skipped_steps=3)), [1])
    before = learned(model)
    take(model, [2, 3, 4], bad=[2, 3, 4])
    with pytest.raises(NonFiniteTraining, match=r'Iteration 4: .*3 in a row, training ends at 3; 3 in all') as stopped:
        take(model, [5])
    assert 'gt itself holds values that are not finite: 004/2' in str(stopped.value)
    assert_equal(learned(model), before)


class _Pictures(torch.utils.data.Dataset):
    opt = {'name': 'held-out', 'dataroot_lq': None}  # noqa: RUF012 (the toolbox's own form)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {'lq': torch.rand(3, 8, 8), 'gt': torch.rand(3, 32, 32), 'lq_path': f'{index}'}


@pytest.mark.parametrize(
    'use',
    [
        lambda model: model.save(0, 2),
        lambda model: model.save(-1, -1),
        lambda model: model.get_current_log(),
        lambda model: model.validation(DataLoader(_Pictures()), 2, None, False),
    ],
    ids=['checkpoint', 'end of the run', 'log line', 'validation'],
)
def test_the_last_step_is_read_before(model_opt, log, tmp_path, use):
    model = take(seeded(model_opt('RestorationModel', 'EDSR', max_skipped_steps=1)), [1])
    take(model, [2], bad=[2])
    with pytest.raises(NonFiniteTraining, match='Iteration 2'):
        use(model)
    assert not list(tmp_path.rglob('*.pth'))
    assert not list(tmp_path.rglob('*.state'))


def test_fp16_lowers_its_scale_on_the_device(model_opt, late, log):
    results = []
    for on in (False, True):
        late(on)
        model = seeded(model_opt('RestorationModel', 'EDSR', ema_decay=0.9, precision='fp16'))
        model.scaler = torch.amp.GradScaler('cpu', init_scale=2.0**26, growth_interval=3)
        take(model, range(1, 11), bad=[2, 8])
        model.settle_last_step()
        told = [record.getMessage() for record in log.records]
        log.clear()
        results.append((told, model.scaler.state_dict(), model.guard.state_dict(), model.net_g.state_dict()))
    told = '\n'.join(results[0][0])
    assert 'Iteration 1: ' in told
    assert 'fp16 overflowed at a loss scale of 6.71089e+07; it is now 3.35544e+07.' in told
    assert told.count('losses: l_pix nan') == 2
    assert 2 < results[0][2]['skipped'] < 10
    assert results[0][:3] == results[1][:3]
    assert_equal(results[0][3], results[1][3])


@pytest.mark.parametrize(
    'killed_after', [5, pytest.param(4, marks=pytest.mark.long), pytest.param(6, marks=pytest.mark.long)]
)
def test_a_run_killed_before_it_read_the_flag_resumes_exactly(model_opt, log, killed_after):
    """The checkpoint is that of iteration 4, whose step and the next one are skipped."""
    opt = model_opt('RestorationModel', 'EDSR', ema_decay=0.9, scheduler=PLATEAU)
    bad = (4, 5)
    whole = take(seeded(deepcopy(opt)), range(1, 5), bad)
    whole.save(0, 4)
    take(whole, range(5, 10), bad)
    whole.settle_last_step()
    told = [record.getMessage() for record in log.records]
    assert len(told) == 2
    log.clear()

    killed = take(seeded(deepcopy(opt)), range(1, 5), bad)
    killed.save(0, 4)
    take(killed, range(5, killed_after + 1), bad)
    del killed

    log.clear()
    opt['path'] |= {'pretrain_network_g': f'{opt["path"]["models"]}/net_g_4.pth', 'param_key_g': 'params'}
    torch.manual_seed(9)
    resumed = build_model(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/4.state'))
    assert resumed.guard.state_dict() == {'in_a_row': 1, 'skipped': 1}
    take(resumed, range(5, 10), bad)
    resumed.settle_last_step()
    assert [record.getMessage() for record in log.records] == told[1:]
    assert_equal(learned(whole), learned(resumed))
    assert whole.get_current_learning_rate() == resumed.get_current_learning_rate()
    assert [each.state_dict() for each in whole.schedulers] == [each.state_dict() for each in resumed.schedulers]
