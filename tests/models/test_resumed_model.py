"""RestorationModel goes on exactly: after a stop, in another layout, from the toolbox's own state."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from trained_models import Noise, seeded, take, weights

from pdan_plugin.training.checkpoints import read_state
from pdan_plugin.training.history import forget_runs

STEADY = {'type': 'MultiStepLR', 'milestones': [1000]}


class _Drawing(nn.Module):
    """EDSR whose features pass a dropout: a network that draws while it trains."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def forward(self, x):
        return nn.functional.dropout(self.first(x), 0.1, self.training) * (1 + 0.01 * float(np.random.rand()))  # noqa: NPY002


def drawing(opt):
    model = seeded(opt)
    model.net_g.conv_first.forward = _Drawing(nn.Conv2d.forward.__get__(model.net_g.conv_first)).forward
    return model


PLATEAU = {'type': 'ReduceLROnPlateau', 'patience': 2, 'window': 2}


@pytest.mark.parametrize(('precision', 'scheduler'), [('fp32', PLATEAU), ('bf16', STEADY), ('fp16', STEADY)])
def test_a_resumed_model_computes_the_same_bits(model_opt, small_batch, precision, scheduler):
    opt = model_opt('RestorationModel', 'EDSR', ema_decay=0.9, precision=precision, scheduler=scheduler)
    whole = take(drawing(deepcopy(opt)), small_batch, range(1, 5))
    whole.save(0, 4)
    take(whole, small_batch, range(5, 9))

    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    opt['path'] |= {'pretrain_network_g': f'{opt["path"]["models"]}/net_g_4.pth', 'param_key_g': 'params'}
    resumed = drawing(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/4.state'))
    take(resumed, small_batch, range(5, 9))
    for name, value in whole.net_g.state_dict().items():
        assert torch.equal(value, resumed.net_g.state_dict()[name]), name
    for name, value in whole.net_g_ema.state_dict().items():
        assert torch.equal(value, resumed.net_g_ema.state_dict()[name]), name
    assert whole.scaler.state_dict() == resumed.scaler.state_dict()
    assert whole.get_current_learning_rate() == resumed.get_current_learning_rate()


def test_skipped_steps_and_best_scores_come_back(model_opt, batch):
    opt = model_opt('RestorationModel', 'EDSR')
    model = take(seeded(deepcopy(opt)), batch, [1])
    model.note_results('REDS', {'psnr': 25.0}, 1)
    bad = {**batch, 'lq': batch['lq'] * float('nan')}
    take(model, bad, [2])
    model.save(0, 2)
    resumed = seeded(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/2.state'))
    assert (resumed.guard.in_a_row, resumed.guard.skipped) == (1, 1)
    assert resumed.best_metric_results == {'REDS': {'psnr': {'better': 'higher', 'val': 25.0, 'iter': 1}}}


def test_a_state_of_the_toolbox_is_resumed_with_a_word_on_what_it_lacks(model_opt, batch, log):
    opt = model_opt('SRModel', 'EDSR')
    stock = take(seeded(deepcopy(opt)), batch, range(1, 4))
    stock.save(0, 3)
    model = seeded(opt | {'model_type': 'RestorationModel'})
    model.resume_training(read_state(f'{opt["path"]["training_states"]}/3.state'))
    assert 'it has no random generators, best scores or fp16 loss scale' in log.text
    assert "option file's is used" not in log.text
    assert model.optimizer_g.param_groups[0]['fused'] is True
    take(model, batch, [4])
    assert {int(each['step']) for each in model.optimizer_g.state.values()} == {4}


def test_a_state_of_two_ranks_goes_on_in_one_and_says_what_that_means(model_opt, batch, log):
    opt = model_opt('RestorationModel', 'EDSR')
    model = take(seeded(deepcopy(opt)), batch, [1])
    model.save(0, 1)
    state = read_state(f'{opt["path"]["training_states"]}/1.state')
    state['random'] *= 2
    resumed = seeded(opt)
    resumed.resume_training(state)
    assert 'saved by 2 rank(s), this run has 1' in log.text
    take(resumed, batch, [2])


def test_a_run_goes_on_in_another_layout(model_opt, batch):
    """Fused Adam takes weights and moments to lie alike in memory, and on a CPU does not look."""
    # at Adam's usual eps a gradient that is nothing but rounding moves its weight as far as any other
    opt = model_opt('RestorationModel', 'EDSR', optim_g={'type': 'Adam', 'lr': 1e-3, 'eps': 1e-4})
    take(seeded(deepcopy(opt)), batch, range(1, 6)).save(0, 5)
    opt['path']['pretrain_network_g'] = f'{opt["path"]["models"]}/net_g_5.pth'
    results = []
    for channels_last in (False, True):
        opt['train']['channels_last'] = channels_last
        model = seeded(deepcopy(opt))
        model.resume_training(read_state(f'{opt["path"]["training_states"]}/5.state'))
        results.append(weights(take(model, batch, [6, 7])))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=0, atol=1e-5)


def test_what_a_validation_draws_the_training_does_not_miss(model_opt):
    model = seeded(model_opt('RestorationModel', 'EDSR'))
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    results = []
    for iteration in (1, 2):
        model.validation(DataLoader(Noise()), iteration, None, False)
        results.append(model.metric_results)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert results[0] == results[1]


PSNR = {'type': 'calculate_psnr', 'crop_border': 0}


@pytest.mark.parametrize(
    'metrics', [{'psnr': PSNR, 'second': PSNR}, {'other': PSNR}, {'psnr': PSNR | {'better': 'lower'}}, {}]
)
def test_a_run_goes_on_with_other_metrics(model_opt, batch, metrics):
    """Both the state and the record, which has a validation made after the state was saved, know of psnr alone."""
    opt = model_opt('RestorationModel', 'EDSR')
    model = take(seeded(deepcopy(opt)), batch, [1])
    model.validation(DataLoader(Noise()), 1, None, False)
    model.save(0, 1)
    model.validation(DataLoader(Noise()), 2, None, False)
    forget_runs()
    opt['val']['metrics'] = metrics
    opt['resume_iter'] = 2
    resumed = seeded(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/1.state') | {'iter': 2})
    resumed.validation(DataLoader(Noise()), 3, None, False)
    for name, settings in metrics.items():
        record = resumed.best_metric_results['held-out'][name]
        assert record['better'] == settings.get('better', 'higher')
        assert record['iter'] in (2, 3)
