"""StyleGAN2 without the toolbox's compiled extensions: its operations by their definition, and a training on a CPU."""

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import stylegan2_arch
from basicsr.ops.fused_act import FusedLeakyReLU, fused_leaky_relu
from basicsr.ops.upfirdn2d import upfirdn2d
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from skimage.data import astronaut

from pdan_plugin.commands import main as cli


@pytest.mark.parametrize('shape', [(2, 3), (2, 3, 5, 4)])
def test_the_activation_is_that_of_its_definition(shape):
    """Also its second derivatives, for the penalties of StyleGAN2."""
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(3, dtype=torch.float64, requires_grad=True)
    sums = values.detach().numpy() + bias.detach().numpy().reshape(1, 3, *([1] * (len(shape) - 2)))
    expected = np.where(sums > 0, sums, 0.2 * sums) * np.sqrt(2)
    np.testing.assert_allclose(fused_leaky_relu(values, bias).detach(), expected)
    assert torch.autograd.gradcheck(fused_leaky_relu, (values, bias))
    assert torch.autograd.gradgradcheck(fused_leaky_relu, (values, bias))
    layer = FusedLeakyReLU(3, negative_slope=0.5, scale=2.0).double()
    torch.testing.assert_close(layer(values), 2 * torch.nn.functional.leaky_relu(values, 0.5))


class _OnGpu(torch.Tensor):
    """A mock of a tensor on a GPU: its values are here, its device is not a CPU."""

    @property
    def device(self):
        return torch.device('cuda')


@pytest.mark.parametrize(('up', 'down', 'pad'), [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1))])
def test_a_gpu_without_the_extension_resamples_as_a_cpu(up, down, pad):
    picture, kernel = torch.rand(1, 2, 6, 8), torch.rand(4, 4)
    expected = upfirdn2d(picture, kernel, up, down, pad)
    found = upfirdn2d(picture.as_subclass(_OnGpu), kernel, up, down, pad)
    assert torch.equal(found.as_subclass(torch.Tensor), expected)
    spread = torch.zeros(1, 2, 6 * up, 8 * up)
    spread[..., ::up, ::up] = picture
    spread = torch.nn.functional.pad(spread, (pad[0], pad[1], pad[0], pad[1]))
    filtered = torch.nn.functional.conv2d(spread.transpose(0, 1), kernel.flip(0, 1)[None, None]).transpose(0, 1)
    torch.testing.assert_close(expected, filtered[..., ::down, ::down])


def test_the_published_activation_names_an_extension_that_is_not_there(stock):
    if hasattr(stylegan2_arch, 'fused_act_ext'):
        pytest.skip('the extensions are compiled here')
    with stock(), pytest.raises(NameError, match='fused_act_ext'):
        stylegan2_arch.fused_leaky_relu(torch.zeros(1, 2), torch.zeros(2))


@pytest.mark.long  # the operators it needs: the tests above
def test_stylegan2_trains_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'gt').mkdir()
    for number in range(4):
        cv2.imwrite(f'gt/{number}.png', astronaut()[8 * number : 8 * number + 16, 200:216, ::-1])
    make_lmdb_from_imgs('gt', 'gt.lmdb', [f'{number}.png' for number in range(4)], list('0123'), map_size=2**20)
    optimizer = {'type': 'Adam', 'lr': 2e-3}
    options = {
        'name': 'style', 'model_type': 'StyleGAN2Model', 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'train': {
            'name': 'FFHQ', 'type': 'FFHQDataset', 'dataroot_gt': 'gt.lmdb', 'io_backend': {'type': 'lmdb'},
            'use_hflip': True, 'mean': [0.5, 0.5, 0.5], 'std': [0.5, 0.5, 0.5], 'num_worker_per_gpu': 0,
            'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 1, 'prefetch_mode': None,
        }},
        'network_g': {'type': 'StyleGAN2Generator', 'out_size': 16, 'num_style_feat': 8, 'num_mlp': 2,
                      'channel_multiplier': 0.125, 'resample_kernel': [1, 3, 3, 1], 'lr_mlp': 0.01},
        'network_d': {'type': 'StyleGAN2Discriminator', 'out_size': 16, 'channel_multiplier': 0.125,
                      'resample_kernel': [1, 3, 3, 1]},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': {
            'optim_g': optimizer, 'optim_d': dict(optimizer), 'total_iter': 2, 'warmup_iter': -1,
            'scheduler': {'type': 'MultiStepLR', 'milestones': [6], 'gamma': 0.5},
            'gan_opt': {'type': 'GANLoss', 'gan_type': 'wgan_softplus', 'loss_weight': 1.0}, 'r1_reg_weight': 10,
            'path_reg_weight': 2, 'path_batch_shrink': 2, 'mixing_prob': 0.9, 'net_g_reg_every': 1,
            'net_d_reg_every': 1,
        },
        'val': {'val_freq': 2, 'save_img': True},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 100, 'use_tb_logger': False},
    }  # fmt: skip
    with open('style.yml', 'w') as file:
        yaml.safe_dump(options, file)
    assert cli.main(['train', '-opt', 'style.yml']) == 0
    saved = torch.load('experiments/style/models/net_g_latest.pth', weights_only=True)
    assert all(value.isfinite().all() for value in saved['params_ema'].values())
