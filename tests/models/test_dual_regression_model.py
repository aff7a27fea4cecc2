"""DualRegressionModel: DRN with its dual networks, trained, stopped, resumed and tested."""

import logging
import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils import get_root_logger
from gloo_ranks import answers_of_ranks
from small_run import changed, train_options, without
from trained_models import seeded, take

from pdan_plugin.archs.drn_arch import DRN
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.synthesis.bicubic import imresize
from pdan_plugin.training.checkpoints import read_state

DUAL = {'dual_opt': {'type': 'L1Loss', 'loss_weight': 0.1}, 'optim_dual': {'type': 'Adam', 'lr': 2e-3}}
NARROW = {'num_feat': 4, 'squeeze_factor': 4}
PLATEAU = {'type': 'ReduceLROnPlateau', 'patience': 2, 'window': 2}


@pytest.fixture
def drn_opt(model_opt):
    def make(**words):
        return model_opt('DualRegressionModel', 'DRN', network_opt=NARROW, **DUAL | words)

    return make


def batch_of(count, seed=5):
    gt = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    names = [f'{seed:03d}/{index:08d}' for index in range(count)]
    return {'lq': gt[..., ::4, ::4].contiguous(), 'gt': gt, 'lq_sharp': gt[..., 1::4, 1::4].clone(), 'lq_path': names}


def weights(model):
    return {
        f'{label}.{name}': value.clone()
        for label, network in model.trained_networks().items()
        for name, value in model.get_bare_model(network).state_dict().items()
    }


def gradients(model):
    return {
        f'{label}.{name}': parameter.grad
        for label, network in model.trained_networks().items()
        for name, parameter in model.get_bare_model(network).named_parameters()
    }


# ---- losses ----


@pytest.mark.parametrize('with_lq_sharp', [True, False])
def test_the_losses_are_those_of_the_paper(drn_opt, batch, with_lq_sharp):
    if not with_lq_sharp:
        del batch['lq_sharp']
    batch['gt'] = batch['gt'].round()  # edges that bicubic resizing overshoots
    model = seeded(drn_opt())
    model.feed_data(batch)
    losses = model.compute_losses()

    def mean_error(image, target):
        return (image - target).abs().mean().item()

    x1, x2, x4 = model.net_g(batch['lq'], return_all=True)
    half, quarter = (imresize(batch['gt'], scale) for scale in (0.5, 0.25))
    assert half.max() > 1
    half, quarter = half.clamp(0, 1), batch['lq_sharp'] if with_lq_sharp else quarter.clamp(0, 1)
    expected = {
        'l_pix': mean_error(x4, batch['gt']),
        'l_pix_x2': mean_error(x2, half),
        'l_pix_x1': mean_error(x1, quarter),
        'l_dual_x2': 0.1 * mean_error(model.dual_networks['dual_x2'](x4), half),
        'l_dual_x1': 0.1 * mean_error(model.dual_networks['dual_x1'](x2), quarter),
    }
    assert list(losses) == list(expected)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ('upscale', 'names'),
    [
        (2, ['l_pix', 'l_pix_x1', 'l_dual_x1']),
        (8, ['l_pix', 'l_pix_x4', 'l_pix_x2', 'l_pix_x1', 'l_dual_x4', 'l_dual_x2', 'l_dual_x1']),
    ],
)
def test_every_power_of_two_has_its_dual_networks(model_opt, upscale, names):
    opt = model_opt('DualRegressionModel', 'DRN', network_opt=NARROW | {'upscale': upscale}, **DUAL)
    model = seeded(opt | {'scale': upscale})
    take(model, {'lq': torch.rand(1, 3, 5, 7), 'gt': torch.rand(1, 3, 5 * upscale, 7 * upscale)}, [1])
    assert list(model.get_current_log()) == names


def test_the_dual_loss_teaches_the_network_too(drn_opt):
    model = take(seeded(drn_opt(pixel_opt={'type': 'L1Loss', 'loss_weight': 0.0})), batch_of(2), [1])
    assert float(model.net_g.head.weight.grad.abs().max()) > 0


# ---- steps ----


def test_each_network_has_its_optimizer_and_all_learn(drn_opt, batch):
    model = seeded(drn_opt(ema_decay=0.9, scheduler={'type': 'MultiStepLR', 'milestones': [10]}))
    before, history = weights(model), []
    for iteration in range(1, 13):
        take(model, batch, [iteration])
        history.append(model.get_current_log())
    assert all(history[-1][name] < history[0][name] for name in history[0])
    assert all(not torch.equal(value, before[name]) for name, value in weights(model).items() if name != 'net_g.mean')
    assert [type(each) for each in model.optimizers] == [torch.optim.Adam] * 3
    assert [each.param_groups[0]['lr'] for each in model.optimizers] == pytest.approx([1e-4, 2e-4, 2e-4])
    held = [{id(parameter) for parameter in each.param_groups[0]['params']} for each in model.optimizers]
    assert held == [{id(each) for each in network.parameters()} for network in model.trained_networks().values()]
    assert set(model.net_g_ema.state_dict()) == set(model.net_g.state_dict())


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_trains_float32_weights(drn_opt, precision):
    batch = batch_of(1)
    model = take(seeded(drn_opt(precision=precision, channels_last=True)), batch, [1])
    first = sum(model.get_current_log().values())
    take(model, batch, range(2, 8))
    assert sum(model.get_current_log().values()) < first
    assert {value.dtype for value in weights(model).values()} == {torch.float32}
    assert model.dual_networks['dual_x2'][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_parts_of_a_batch_give_its_gradients(drn_opt):
    whole, parts = (take(seeded(drn_opt(accumulation_steps=steps)), batch_of(4), [1]) for steps in (1, 2))
    assert parts.get_current_log() == pytest.approx(whole.get_current_log(), rel=1e-5)
    of_parts = gradients(parts)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(of_parts[name], gradient, rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))


def test_a_dual_network_whose_gradient_is_not_finite_stops_the_step_of_all(drn_opt, caplog, monkeypatch):
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    caplog.set_level(logging.INFO)
    model = take(seeded(drn_opt(grad_clip_norm=0.01)), batch_of(2), [1])
    norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients(model).values()))
    assert norm == pytest.approx(0.01, rel=1e-3)  # over all networks together
    before = weights(model)
    hook = model.dual_networks['dual_x1'][0].weight.register_hook(lambda gradient: gradient * math.inf)
    take(model, batch_of(2), [2])
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    assert 'gradient not finite: net_dual_x1.0.weight\n' in caplog.text + '\n'
    hook.remove()
    take(model, batch_of(2), [3])
    assert model.guard.in_a_row == 0


# ---- two ranks ----


def one_step(opt, batch):
    model = take(seeded(opt), batch, [1])
    return {name: gradient.tolist() for name, gradient in gradients(model).items() if 'dual' in name or 'head' in name}


def step_as(opt, rank):
    return one_step(opt, batch_of(2, seed=rank))


def test_two_ranks_take_the_step_of_one_with_both_batches(drn_opt, tmp_path):
    opt = drn_opt(accumulation_steps=2)
    results = answers_of_ranks(step_as, 2, tmp_path, opt)
    batches = [batch_of(2, seed=rank) for rank in (0, 1)]
    expected = one_step(
        opt | {'train': opt['train'] | {'accumulation_steps': 1}},
        {key: torch.cat([batch[key] for batch in batches]) for key in ('lq', 'gt', 'lq_sharp')},
    )
    assert len(expected) == 6
    for name, values in expected.items():
        values = torch.tensor(values)
        for result in results:
            torch.testing.assert_close(
                torch.tensor(result[name]), values, rtol=1e-3, atol=1e-6 * float(values.abs().max())
            )


# ---- checkpoints ----


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_resumed_model_computes_the_same_bits(drn_opt, batch, precision):
    opt = drn_opt(ema_decay=0.9, scheduler=PLATEAU, precision=precision)
    whole = take(seeded(deepcopy(opt)), batch, range(1, 5))
    whole.save(0, 4)
    take(whole, batch, range(5, 9))

    torch.manual_seed(99)
    opt['path']['pretrain_network_g'] = f'{opt["path"]["models"]}/net_g_4.pth'
    resumed = build_model(opt)
    resumed.resume_training(read_state(f'{opt["path"]["training_states"]}/4.state'))
    take(resumed, batch, range(5, 9))
    resumed_weights = weights(resumed)
    assert len(resumed_weights) == len(whole.net_g.state_dict()) + 4
    for name, value in weights(whole).items():
        assert torch.equal(value, resumed_weights[name]), name
    for name, value in whole.net_g_ema.state_dict().items():
        assert torch.equal(value, resumed.net_g_ema.state_dict()[name]), name
    rates = [[each.param_groups[0]['lr'] for each in model.optimizers] for model in (whole, resumed)]
    assert rates[0] == rates[1]


def test_a_checkpoint_without_its_dual_networks_is_refused(drn_opt, batch):
    opt = drn_opt()
    take(seeded(deepcopy(opt)), batch, [1]).save(0, 1)
    missing = Path(opt['path']['models'], 'net_dual_x1_1.pth')
    missing.unlink()
    with pytest.raises(RequestError, match=r'net_dual_x1_1\.pth: no such weights file'):
        seeded(opt).resume_training(read_state(f'{opt["path"]["training_states"]}/1.state'))


@pytest.mark.parametrize(
    ('saved', 'resumed'),
    [('DualRegressionModel', 'RestorationModel'), ('RestorationModel', 'DualRegressionModel')],
)
def test_a_state_of_another_model_is_refused(drn_opt, batch, saved, resumed):
    opt = drn_opt()
    take(seeded(deepcopy(opt) | {'model_type': saved}), batch, [1]).save(0, 1)
    with pytest.raises(RequestError, match='another model_type saved it'):
        seeded(opt | {'model_type': resumed}).resume_training(read_state(f'{opt["path"]["training_states"]}/1.state'))


def test_older_checkpoints_go_with_their_dual_networks(drn_opt, batch):
    opt = drn_opt() | {'logger': {'keep_checkpoints': 1}}
    model = seeded(opt)
    for iteration in (1, 2):
        take(model, batch, [iteration]).save(0, iteration)
    names = sorted(path.name for path in Path(opt['path']['models']).iterdir())
    assert names == ['net_dual_x1_2.pth', 'net_dual_x2_2.pth', 'net_g_2.pth']


@pytest.mark.parametrize('key', [None, 'model'])
def test_training_starts_from_a_file_without_the_toolbox_s_keys(drn_opt, batch, tmp_path, key):
    """As the authors' are; the toolbox asks for the moving average's weights by its own key."""
    start = DRN(num_block=1, **NARROW)
    torch.save(start.state_dict() if key is None else {key: start.state_dict()}, tmp_path / 'start.pt')
    opt = drn_opt(ema_decay=0.9)
    opt['path'] |= {'pretrain_network_g': str(tmp_path / 'start.pt'), 'param_key_g': key}
    model = seeded(opt)
    for network in (model.net_g, model.net_g_ema):
        for name, value in start.state_dict().items():
            assert torch.equal(network.state_dict()[name], value)
    take(model, batch, [1])


# ---- test ----


@pytest.mark.parametrize('model_type', ['DualRegressionModel', 'RestorationModel', 'DualSupervisionModel'])
def test_a_test_restores_with_the_network_alone(drn_opt, model_opt, batch, model_type):
    trained = take(seeded(drn_opt(ema_decay=0.9)), batch, [1, 2])
    trained.save(0, 2)
    opt = model_opt(model_type, 'DRN', is_train=False, network_opt=NARROW)
    opt['path'] |= {'pretrain_network_g': f'{opt["path"]["models"]}/net_g_2.pth', 'param_key_g': 'params_ema'}
    tested = build_model(opt)
    assert not hasattr(tested, 'dual_networks')
    for model in (trained, tested):
        model.feed_data(batch)
        model.test()
    torch.testing.assert_close(tested.output, trained.output, rtol=0, atol=0)


# ---- options ----


@pytest.fixture
def options():
    plain = train_options() | {'model_type': 'DualRegressionModel', 'network_g': {'type': 'DRN', 'num_block': 1}}
    return plain | {'train': plain['train'] | DUAL}


def refusal(options):
    with pytest.raises(RequestError) as refused:
        check_options(options, 'my.yml', is_train=True)
    return str(refused.value)


def test_options_of_a_dual_regression_pass(options):
    check_options(options, 'my.yml', is_train=True)


@pytest.mark.parametrize('key', ['pixel_opt', 'dual_opt', 'optim_dual'])
def test_what_it_needs_is_asked_for(options, key):
    told = refusal(without(options, f'train.{key}'))
    assert told.startswith('one problem')
    assert f'my.yml: train.{key}: missing; DualRegressionModel needs' in told


def test_the_loss_is_that_of_every_scale_beside_a_perceptual_one_too(options):
    options['train']['perceptual_opt'] = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}
    assert 'train.pixel_opt: missing; DualRegressionModel needs' in refusal(without(options, 'train.pixel_opt'))


def test_dual_sections_are_checked_like_their_likes(options):
    assert "train.optim_dual.lr: found the text '1e-4'" in refusal(changed(options, 'train.optim_dual.lr', '1e-4'))
    assert "no loss named 'L1Los' is registered; did you mean 'L1Loss'" in refusal(
        changed(options, 'train.dual_opt.type', 'L1Los')
    )


def test_dual_options_are_told_where_another_model_would_pass_them_by(options):
    told = refusal(options | {'model_type': 'RestorationModel'})
    assert 'train.dual_opt: RestorationModel does not read it; it is read by model_type DualRegressionModel' in told
    assert 'this loss would be ignored' in told
    del options['train']['dual_opt']
    warnings = []
    check_options(options | {'model_type': 'RestorationModel'}, 'my.yml', is_train=True, warn=warnings.append)
    expected = 'train.optim_dual: RestorationModel does not read it; it is read by model_type DualRegressionModel'
    assert any(expected in line for line in warnings)


def test_a_network_without_results_of_all_scales_is_refused(options, model_opt):
    edsr = train_options()['network_g']
    told = refusal(options | {'network_g': edsr})
    assert 'network_g.type: DualRegressionModel cannot train EDSR: its forward has no return_all' in told
    with pytest.raises(RequestError, match='cannot train EDSR'):
        build_model(model_opt('DualRegressionModel', 'EDSR', **DUAL))


def test_a_scale_that_is_no_power_of_two_is_refused(options, drn_opt):
    assert 'scale: found 3; expected 2, 4 or a higher power of two' in refusal(options | {'scale': 3})
    with pytest.raises(RequestError, match='scale: found 3; expected 2, 4'):
        build_model(drn_opt() | {'scale': 3})
