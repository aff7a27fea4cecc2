"""RestorationModel as an engine: precision, accumulation, safety, and models derived from it."""

from copy import deepcopy
from functools import partialmethod

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from trained_models import Noise, seeded, take, weights

from pdan_plugin.errors import RequestError
from pdan_plugin.models.restoration_model import RestorationModel
from pdan_plugin.training.checkpoints import read_state
from pdan_plugin.training.gradient_guard import NonFiniteTraining

STEADY = {'type': 'MultiStepLR', 'milestones': [1000]}


def batch_of(count):
    generator = torch.Generator().manual_seed(5)
    gt = torch.rand(count, 3, 32, 32, generator=generator)
    return {'lq': gt[..., ::4, ::4].contiguous(), 'gt': gt, 'lq_path': [f'000/{index:08d}' for index in range(count)]}


# ---- precision ----


def test_a_precision_that_slows_this_processor_is_told_before_training(model_opt, log, monkeypatch):
    """A mock, because the processor at hand may have the instructions."""
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda _: 9.0)
    seeded(model_opt('RestorationModel', 'EDSR'))
    assert 'is slow' not in log.text
    seeded(model_opt('RestorationModel', 'EDSR', precision='bf16'))
    told = next(record for record in log.records if 'is slow' in record.message)
    assert told.levelname == 'WARNING'
    assert told.message.startswith('train: precision bf16 is slow')
    assert '9 times as long' in told.message
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['precision'] = 'fp16'
    seeded(opt)
    assert 'val: precision fp16 is slow' in log.text


@pytest.mark.parametrize('network', ['PDAN', 'RCAN', 'EDSR'])
@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_trains_float32_weights(model_opt, small_batch, network, precision):
    model = seeded(model_opt('RestorationModel', network, precision=precision, channels_last=True))
    take(model, small_batch, [1])
    first = model.get_current_log()['l_pix']
    take(model, small_batch, range(2, 15))
    assert model.get_current_log()['l_pix'] < first
    assert {parameter.dtype for parameter in model.net_g.parameters()} == {torch.float32}
    assert model.losses['l_pix'].dtype == torch.float32


def test_fp16_lowers_its_scale_after_an_overflow_and_goes_on(model_opt, log):
    batch = batch_of(1)  # a processor without fp16 takes seconds for a larger one
    model = seeded(model_opt('RestorationModel', 'EDSR', precision='fp16'))
    model.scaler = torch.amp.GradScaler('cpu', init_scale=2.0**40)
    before = weights(model)
    take(model, batch, [1])
    assert all(torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())
    assert 'fp16 overflowed at a loss scale of 1.09951e+12; it is now 5.49756e+11' in log.text
    for iteration in range(2, 40):
        take(model, batch, [iteration])
        if model.guard.in_a_row == 0:
            break
    assert any(not torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())


def test_validation_has_a_precision_of_its_own(model_opt, batch):
    opt = model_opt('RestorationModel', 'EDSR', precision='bf16')
    dtypes = []
    for precision in ('fp32', 'bf16'):
        opt['val']['precision'] = precision
        model = seeded(deepcopy(opt))
        model.feed_data(batch)
        model.test()  # the first one also measures which sizes the network accepts
        model.net_g.conv_last.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
        model.test()
        assert model.output.dtype == torch.float32
    assert dtypes == [torch.float32, torch.bfloat16]


def test_tf32_is_an_option_of_training_and_off_in_validation(model_opt, batch, log, monkeypatch):
    seen = []
    try:
        for asked in (True, False):
            model = seeded(model_opt('RestorationModel', 'EDSR', tf32=asked))
            assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is asked
            model.feed_data(batch)
            model.test()  # the first one also measures which sizes the network accepts
            model.net_g.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
            take(model, batch, [1])
            model.test()
            assert torch.backends.cudnn.allow_tf32 is asked
        assert 'TF32 on CUDA on' in log.text
        assert 'TF32 on CUDA off' in log.text
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    assert seen == [True, False, False, False]


@pytest.mark.parametrize('backend', ['aot_eager', pytest.param('inductor', marks=pytest.mark.long)])
def test_a_compiled_network_trains_as_the_plain_one_and_saves_plain_names(model_opt, batch, monkeypatch, backend):
    """The default backend, inductor, has a C++ compiler translate what the quick one computes with torch."""
    monkeypatch.setattr(nn.Module, 'compile', partialmethod(nn.Module.compile, backend=backend))
    opt = model_opt('RestorationModel', 'EDSR', ema_decay=0.9)
    plain = take(seeded(deepcopy(opt)), batch, range(1, 4))
    opt['train']['compile'] = True
    compiled = take(seeded(opt), batch, range(1, 4))
    for name, value in plain.net_g.state_dict().items():
        torch.testing.assert_close(compiled.net_g.state_dict()[name], value, rtol=0, atol=1e-4)
    compiled.save(0, 3)
    saved = torch.load(f'{opt["path"]["models"]}/net_g_3.pth', weights_only=True)
    assert list(saved['params']) == list(saved['params_ema']) == list(plain.net_g.state_dict())
    compiled.test()


# ---- the optimizer and the average ----


@pytest.mark.parametrize('kind', ['Adam', 'AdamW'])
def test_adam_and_adamw_are_fused_and_compute_what_torchs_do(model_opt, batch, kind):
    opt = model_opt('RestorationModel', 'EDSR', optim_g={'type': kind, 'lr': 1e-3, 'weight_decay': 0.01})
    models = []
    for further in ({}, {'fused': False}):
        opt['train']['optim_g'] |= further
        models.append(take(seeded(deepcopy(opt)), batch, range(1, 4)))
    assert type(models[0].optimizer_g) is getattr(torch.optim, kind)
    assert [model.optimizer_g.defaults['fused'] for model in models] == [True, False]
    for name, value in weights(models[1]).items():
        torch.testing.assert_close(models[0].net_g.state_dict()[name], value, rtol=1e-5, atol=1e-7)


def test_the_average_moves_as_the_toolboxs_does(model_opt, batch):
    opt = model_opt('SRModel', 'EDSR', ema_decay=0.9)
    stock = take(seeded(deepcopy(opt)), batch, range(1, 4))
    ours = take(seeded(opt | {'model_type': 'RestorationModel'}), batch, range(1, 4))
    assert ours.net_g_ema.conv_first.weight.is_contiguous()
    for name, value in stock.net_g_ema.state_dict().items():
        torch.testing.assert_close(ours.net_g_ema.state_dict()[name], value, rtol=1e-5, atol=1e-6)


# ---- accumulation ----


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('loss', ['L1Loss', 'HPEMLoss'])
def test_parts_of_a_batch_give_its_gradients(model_opt, reduction, loss):
    gradients, losses = [], []
    for steps in (1, 3):
        pixel_opt = {'type': loss, 'reduction': reduction}
        opt = model_opt('RestorationModel', 'EDSR', pixel_opt=pixel_opt, accumulation_steps=steps)
        model = take(seeded(opt), batch_of(6), [1])
        gradients.append({name: value.grad for name, value in model.net_g.named_parameters()})
        losses.append(model.get_current_log()['l_pix'])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))


def test_parts_count_for_both_branches(model_opt):
    results = []
    batch = batch_of(4)
    batch['lq_sharp'] = batch['lq'].flip(0).contiguous()
    for steps in (1, 2):
        opt = model_opt('DualSupervisionModel', 'PDAN', deblur_opt={'type': 'L1Loss'}, accumulation_steps=steps)
        results.append(take(seeded(opt), batch, [1]).get_current_log())
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_an_iteration_is_one_step_of_schedule_and_average(model_opt):
    schedule = {'type': 'MultiStepLR', 'milestones': [2]}
    opt = model_opt('RestorationModel', 'EDSR', accumulation_steps=2, scheduler=schedule)
    model = take(seeded(opt), batch_of(4), range(1, 4))
    assert [int(state['step']) for state in model.optimizer_g.state.values()] == [3] * len(model.optimizer_g.state)
    assert model.get_current_learning_rate() == pytest.approx([1e-4])


# ---- safety ----


def test_gradients_are_clipped_to_a_norm(model_opt, batch):
    norms = []
    for clip in (None, 1e-3):
        further = {} if clip is None else {'grad_clip_norm': clip}
        model = take(seeded(model_opt('RestorationModel', 'EDSR', **further)), batch, [1])
        norms.append(float(torch.nn.utils.get_total_norm([each.grad for each in model.net_g.parameters()])))
    assert norms[0] > 1e-2
    assert norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_nan_in_a_sample_skips_the_step_and_names_loss_and_sample(model_opt, log):
    opt = model_opt('RestorationModel', 'EDSR', ema_decay=0.9, accumulation_steps=2)
    model = take(seeded(opt), batch_of(4), [1])
    before, averaged = weights(model), {name: each.clone() for name, each in model.net_g_ema.state_dict().items()}
    moments = deepcopy(model.optimizer_g.state_dict()['state'])
    bad = batch_of(4)
    bad['gt'][2, 0, 0, 0] = float('nan')
    take(model, bad, [2])

    message = log.records[-1].getMessage()
    assert 'Iteration 2: a loss or gradient is not finite, so the step is skipped' in message
    assert 'losses: l_pix nan' in message
    assert 'samples: 000/00000002, 000/00000003\n' in message  # the second part alone
    assert 'gt itself holds values that are not finite: 000/00000002' in message
    assert all(torch.equal(value, before[name]) for name, value in model.net_g.state_dict().items())
    assert all(torch.equal(value, averaged[name]) for name, value in model.net_g_ema.state_dict().items())
    after = model.optimizer_g.state_dict()['state']
    assert all(torch.equal(after[key]['exp_avg'], moments[key]['exp_avg']) for key in moments)

    take(model, batch_of(4), [3])
    assert not torch.equal(model.net_g.conv_first.weight, before['conv_first.weight'])
    assert model.guard.in_a_row == 0


def test_a_gradient_that_overflows_behind_a_finite_loss_is_told_so(model_opt, batch, log):
    model = seeded(model_opt('RestorationModel', 'EDSR'))
    model.net_g.conv_last.weight.register_hook(lambda gradient: gradient * float('inf'))
    take(model, batch, [1])
    assert 'the losses are finite, the gradient is not' in log.text
    assert 'gradient not finite: conv_last.weight\n' in log.text + '\n'


def test_too_many_skipped_steps_in_a_row_end_the_training(model_opt):
    model = seeded(model_opt('RestorationModel', 'EDSR', max_skipped_steps=3))
    bad = batch_of(2)
    bad['lq'][0] = float('inf')
    take(model, bad, [1, 2])
    take(model, batch_of(2), [3])
    take(model, bad, [4, 5])
    with pytest.raises(NonFiniteTraining, match='3 in a row, training ends at 3; 5 in all') as stopped:
        take(model, bad, [6])
    assert 'lq itself holds values that are not finite: 000/00000000' in str(stopped.value)
    assert 'gradient not finite: conv_first.weight, ' in str(stopped.value)


def test_running_statistics_do_not_take_a_nan_in(model_opt):
    model = seeded(model_opt('RestorationModel', 'EDSR'))
    model.net_g.conv_first = nn.Sequential(model.net_g.conv_first, nn.BatchNorm2d(16))
    model._statistics = [each for name, each in model.net_g.named_buffers() if 'running_' in name]
    bad = batch_of(2)
    bad['lq'][0] = float('nan')
    take(model, bad, [1])
    assert len(model._statistics) == 2
    assert all(bool(torch.isfinite(each).all()) for each in model._statistics)


# ---- models of plugins ----


class _OfAPlugin(RestorationModel):
    """Written as one writes a model for the toolbox: none of its methods knows of this project's."""

    def feed_data(self, data):
        self.lq, self.gt = data['lq'].to(self.device), data['gt'].to(self.device)
        self.strength = data['lq'].mean()

    def test(self):
        self.lq = self.lq * self.strength
        super().test()

    def save(self, epoch, current_iter):
        self.save_network(self.net_g, 'net_g', current_iter)
        self.save_training_state(epoch, current_iter)


class _WithItsOwnStep(_OfAPlugin):
    def optimize_parameters(self, current_iter):
        self.optimizer_g.zero_grad()
        loss = self.cri_pix(self.net_g(self.lq), self.gt)
        loss.backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict({'l_own': loss})


@pytest.mark.parametrize(('kind', 'loss'), [(_OfAPlugin, 'l_pix'), (_WithItsOwnStep, 'l_own')])
def test_a_model_written_for_the_toolbox_keeps_its_methods(model_opt, batch, kind, loss):
    opt = model_opt('RestorationModel', 'EDSR')
    torch.manual_seed(0)
    model = take(kind(deepcopy(opt)), batch, [1])
    assert list(model.get_current_log()) == [loss]
    del model.strength
    model.validation(DataLoader(Noise()), 1, None, False)
    assert 0 < model.strength < 1
    model.save(0, 1)
    resumed = kind(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/1.state'))
    take(resumed, batch, [2])


def test_parts_of_a_batch_that_a_model_does_not_keep_are_refused(model_opt, batch):
    model = _OfAPlugin(model_opt('RestorationModel', 'EDSR', accumulation_steps=2))
    with pytest.raises(RequestError, match='_OfAPlugin overrides feed_data'):
        take(model, batch, [1])
