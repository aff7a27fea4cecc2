"""DualSupervisionModel with any network, and PDAN in the toolbox's own models."""

import pytest
import torch
from basicsr.models import build_model

from pdan_plugin.errors import RequestError

DEBLUR_OPT = {'type': 'L1Loss', 'loss_weight': 0.5}


def train(model, batch, iterations=12):
    """Losses of every iteration, by name."""
    history = []
    for iteration in range(1, iterations + 1):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        history.append(dict(model.get_current_log()))
    return history


@pytest.mark.parametrize('network', ['PDAN', 'RCAN', 'EDSR', 'SwinIR', 'DRN'])
def test_any_network_trains(model_opt, batch, network):
    history = train(build_model(model_opt('DualSupervisionModel', network, deblur_opt=DEBLUR_OPT)), batch)
    assert history[-1]['l_pix'] < history[0]['l_pix']
    assert ('l_deblur' in history[0]) == (network == 'PDAN')


@pytest.mark.parametrize('loss', ['L1Loss', 'HPEMLoss'])
def test_both_branches_learn_and_are_logged_apart(model_opt, batch, loss):
    opt = model_opt(
        'DualSupervisionModel', 'PDAN', pixel_opt={'type': loss}, deblur_opt={'type': loss, 'loss_weight': 0.5}
    )
    history = train(build_model(opt), batch)
    assert set(history[0]) == {'l_pix', 'l_deblur'}
    for name in history[0]:
        assert history[-1][name] < history[0][name]


def test_deblur_weight_counts(model_opt, batch):
    opt = model_opt('DualSupervisionModel', 'PDAN', deblur_opt=DEBLUR_OPT)
    model = build_model(opt)
    model.feed_data(batch)
    hr, lr = model.net_g(batch['lq'], return_lr=True)
    losses = model.compute_losses()
    assert losses['l_pix'].item() == pytest.approx((hr - batch['gt']).abs().mean().item(), rel=1e-5)
    assert losses['l_deblur'].item() == pytest.approx(0.5 * (lr - batch['lq_sharp']).abs().mean().item(), rel=1e-5)


def test_validation_does_not_compute_the_branch(model_opt, batch):
    model = build_model(model_opt('DualSupervisionModel', 'PDAN', deblur_opt=DEBLUR_OPT, ema_decay=0.9))
    for network in (model.net_g, model.net_g_ema):
        network.deblur_branch.register_forward_hook(lambda *_: pytest.fail('the branch was computed'))
    model.feed_data(batch)
    model.test()
    assert model.output.shape == batch['gt'].shape


def test_test_network_has_no_branch_and_takes_training_weights(model_opt, batch):
    trained = build_model(model_opt('DualSupervisionModel', 'PDAN', deblur_opt=DEBLUR_OPT, ema_decay=0.9))
    train(trained, batch, iterations=2)
    trained.save(0, 2)
    opt = model_opt('DualSupervisionModel', 'PDAN', is_train=False)
    opt['path'] |= {'pretrain_network_g': f'{opt["path"]["models"]}/net_g_2.pth', 'param_key_g': 'params_ema'}
    tested = build_model(opt)
    assert tested.net_g.deblur_branch is None
    for model in (trained, tested):
        model.feed_data(batch)
        model.test()
    torch.testing.assert_close(tested.output, trained.output, rtol=0, atol=0)


def test_branch_without_a_loss_is_refused(model_opt):
    with pytest.raises(RequestError, match='deblur_opt'):
        build_model(model_opt('DualSupervisionModel', 'PDAN'))


def test_batch_without_lq_sharp_is_refused(model_opt, batch):
    model = build_model(model_opt('DualSupervisionModel', 'PDAN', deblur_opt=DEBLUR_OPT))
    del batch['lq_sharp']
    with pytest.raises(RequestError, match='lq_sharp'):
        model.feed_data(batch)


def test_bf16_and_channels_last_train(model_opt, batch):
    opt = model_opt('DualSupervisionModel', 'PDAN', deblur_opt=DEBLUR_OPT, precision='bf16', channels_last=True)
    model = build_model(opt)
    history = train(model, batch)
    assert history[-1]['l_pix'] < history[0]['l_pix']
    assert model.net_g.conv_first.weight.dtype == torch.float32
    assert model.net_g.body[0].conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_pdan_trains_in_the_toolboxs_sr_model(model_opt, batch):
    history = train(build_model(model_opt('SRModel', 'PDAN', network_opt={'deblur_branch': False})), batch)
    assert history[-1]['l_pix'] < history[0]['l_pix']


def test_pdan_trains_in_the_toolboxs_esrgan_model(model_opt, batch):
    opt = model_opt(
        'ESRGANModel',
        'PDAN',
        network_opt={'deblur_branch': False},
        optim_d={'type': 'Adam', 'lr': 1e-4},
        gan_opt={'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.1},
    )
    opt['network_d'] = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4}
    history = train(build_model(opt), batch)
    assert {'l_g_pix', 'l_g_gan', 'l_d_real', 'l_d_fake'} <= set(history[0])
    assert history[-1]['l_g_pix'] < history[0]['l_g_pix']
