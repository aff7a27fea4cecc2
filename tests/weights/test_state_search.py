"""Weights of other projects: found by looking, or the keys are listed and --param-key chooses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs.edsr_arch import EDSR
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file
from skimage import data
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pdan_plugin.commands.main import main
from pdan_plugin.errors import RequestError
from pdan_plugin.models.restoration_model import RestorationModel
from pdan_plugin.weights.network_export import export_network
from pdan_plugin.weights.trained_network import load_trained_network

NETWORK = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}


def network(seed):
    torch.manual_seed(seed)
    return EDSR(**NETWORK)


def state(seed, prefix=''):
    return {f'{prefix}{name}': value for name, value in network(seed).state_dict().items()}


def adam(seed):
    """The state of an optimizer after a step."""
    trained = network(seed)
    optimizer = torch.optim.Adam(trained.parameters())
    trained(torch.rand(1, 3, 8, 8)).mean().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.fixture
def option_file(tmp_path):
    path = tmp_path / 'edsr.yml'
    path.write_text(yaml.safe_dump({'name': 'edsr', 'network_g': {'type': 'EDSR', **NETWORK}}))
    return path


def write(path, content):
    (save_file if path.suffix == '.safetensors' else torch.save)(content, path)
    return path


def same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


VGG = {f'loss.vgg.{name}': value for name, value in nn.Sequential(nn.Conv2d(3, 4, 3)).state_dict().items()}
FILES = {
    # as torch, timm, mmcv and hand-written loops save
    'state_dict': lambda: {'state_dict': state(1), 'epoch': 3, 'meta': {'version': '1.0'}},
    'model': lambda: {'model': state(1), 'optimizer': adam(1), 'args': {'lr': 0.1}},
    'model_state_dict': lambda: {'model_state_dict': state(1), 'optimizer_state_dict': adam(1), 'loss': torch.ones(())},
    'nested': lambda: {'checkpoint': {'nets': {'g': state(1)}}, 'iter': 5},
    'bare': lambda: state(1),
    'bare beside a number': lambda: {**state(1), 'epoch': 3},
    # wrappers, in any order
    'DDP': lambda: {'params': state(1, 'module.')},
    'compiled DDP': lambda: {'params': state(1, '_orig_mod.module.')},
    'DDP of a compiled one': lambda: {'state_dict': state(1, 'module._orig_mod.')},
    'thrice': lambda: state(1, 'module._orig_mod.module._orig_mod.'),
    'FSDP': lambda: {'model': state(1, '_fsdp_wrapped_module._orig_mod.')},
    'Fabric': lambda: state(1, '_forward_module.module.'),
    'AveragedModel': lambda: AveragedModel(network(1)).state_dict(),
    # Lightning's modules, and what lies beside the network in them
    'Lightning': lambda: {'state_dict': state(1, 'model.') | VGG, 'epoch': 1, 'pytorch-lightning_version': '2.0',
                          'optimizer_states': [adam(1)], 'hyper_parameters': {'lr': 0.1}, 'loops': {}},
    'compiled Lightning': lambda: {'state_dict': state(1, 'model._orig_mod.') | VGG},
    'DDP inside': lambda: {'state_dict': state(1, 'net_g.module.') | VGG},
    'deep': lambda: {'state_dict': state(1, 'trainer.sr.generator.')},
    # a GAN's other network has other names
    'GAN': lambda: {'netG': state(1), 'netD': nn.Sequential(nn.Conv2d(3, 8, 3)).state_dict()},
    # another size of the same network: the shapes show which is meant
    'teacher': lambda: {'state_dict': state(1, 'student.') | {f'teacher.{name}': value for name, value in
                        EDSR(**{**NETWORK, 'num_feat': 16}).state_dict().items()}},
    # the average is preferred, as params_ema is
    'average': lambda: {'model': state(2), 'model_ema': state(1)},
    'ema of Lightning': lambda: {'state_dict': state(2, 'net.') | state(1, 'net_ema.')},
    'params_ema': lambda: {'params': state(2, 'module.'), 'params_ema': state(1, 'module.')},
}  # fmt: skip


@pytest.mark.parametrize('form', FILES)
def test_the_weights_are_found(tmp_path, option_file, form):
    weights = write(tmp_path / 'other.pth', FILES[form]())
    assert same(load_trained_network(weights, option_file), network(1))


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.module.', 'model.', 'generator.module.', 'a.b.c.'])
def test_safetensors_with_a_prefix(tmp_path, option_file, prefix):
    weights = write(tmp_path / 'other.safetensors', state(1, prefix) | (VGG if prefix else {}))
    assert same(load_trained_network(weights, option_file), network(1))


@pytest.mark.parametrize('make', [RestorationModel.__new__, lambda _: BaseModel({'num_gpu': 0, 'is_train': False})])
@pytest.mark.parametrize('form', [form for form in FILES if form != 'params_ema'])
def test_a_training_begins_with_them_too(tmp_path, make, form):
    """Models of this package and of the toolbox; with `param_key_g: params`, which most option files say."""
    weights, model, loaded = write(tmp_path / 'other.pth', FILES[form]()), make(RestorationModel), network(5)
    model.opt, model.device = {'dist': False, 'path': {}, 'num_gpu': 0, 'is_train': False}, torch.device('cpu')
    model.load_network(loaded, str(weights), True, 'params')
    assert same(loaded, network(1))


AMBIGUOUS = {
    'sections': ({'first': state(1), 'second': state(2)}, 'first', 'second'),
    'nested sections': ({'nets': {'a': state(1), 'b': state(2)}}, 'nets.a', 'nets.b'),
    'prefixes': ({'state_dict': {**state(1, 'a.'), **state(2, 'b.')}}, 'state_dict.a', 'state_dict.b'),
    'bare prefixes': ({**state(1, 'a.'), **state(2, 'b.')}, 'a', 'b'),
    'two averages': ({'ema_1': state(1), 'ema_2': state(2)}, 'ema_1', 'ema_2'),
}


@pytest.mark.parametrize('form', AMBIGUOUS)
def test_of_several_the_user_chooses(tmp_path, option_file, form):
    content, first, second = AMBIGUOUS[form]
    weights = write(tmp_path / 'other.pth', content)
    with pytest.raises(RequestError, match=f"2 sets of weights .*'{first}', '{second}'.*--param-key KEY"):
        load_trained_network(weights, option_file)
    assert same(load_trained_network(weights, option_file, param_key=first), network(1))
    assert same(load_trained_network(weights, option_file, param_key=second), network(2))


def test_a_key_chosen_goes_before_the_average(tmp_path, option_file):
    weights = write(tmp_path / 'other.pth', {'params': state(1), 'params_ema': state(2)})
    assert same(load_trained_network(weights, option_file), network(2))
    assert same(load_trained_network(weights, option_file, param_key='params'), network(1))
    weights = write(tmp_path / 'other.safetensors', state(1, 'net.') | state(2, 'net_ema.'))
    assert same(load_trained_network(weights, option_file), network(2))
    assert same(load_trained_network(weights, option_file, param_key='net'), network(1))


@pytest.mark.parametrize(
    ('content', 'param_key', 'told'),
    [
        ({'state_dict': state(1), 'epoch': 3}, 'model', r"has no key 'model', only 'state_dict', 'epoch'"),
        ({'epoch': 3, 'best': [1]}, None, r"its keys are 'epoch', 'best'.*--param-key KEY"),
        ({'a': {'x': torch.ones(1)}, 'b': {'y': torch.ones(1)}}, None, r"its keys are 'a', 'b'.*--param-key KEY"),
        ({'x.weight': torch.ones(1)}, None, r'(?s)does not fit network_g.*"conv_first.weight".*"x.weight"'),
        ({'state_dict': {'body.0.conv1.weight': torch.ones(1)}}, None, r'(?s)does not fit.*Missing.*size mismatch'),
    ],
)
def test_what_is_not_found_is_told_with_the_keys(tmp_path, option_file, content, param_key, told):
    weights = write(tmp_path / 'other.pth', content)
    with pytest.raises(RequestError, match=rf'other\.pth.*{told}' if '(?s)' not in told else told):
        load_trained_network(weights, option_file, param_key=param_key)


def test_the_commands_take_the_key(tmp_path, option_file, capsys):
    weights = write(tmp_path / 'gan.ckpt', {'state_dict': {**state(1, 'a.'), **state(2, 'b.')}})
    photo = np.ascontiguousarray(data.astronaut()[:24, 100:130, ::-1])
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    words = ['restore', str(tmp_path / 'photo.png'), '-w', str(weights), '-opt', str(option_file)]
    assert main([*words, '-o', str(tmp_path / 'none.png')]) == 2
    assert "'state_dict.a', 'state_dict.b'" in capsys.readouterr().err
    for key, seed in (('state_dict.a', 1), ('state_dict.b', 2)):
        assert main([*words, '-o', str(tmp_path / f'{key}.png'), '--param-key', key]) == 0
        picture = torch.from_numpy(photo[..., ::-1] / np.float32(255)).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = network(seed)(picture)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()[..., ::-1]
        assert np.abs(cv2.imread(str(tmp_path / f'{key}.png')) - expected).max() <= 1
    export_network(weights, Path(tmp_path / 'b.safetensors'), option_file, param_key='state_dict.b')
    assert same(load_trained_network(tmp_path / 'b.safetensors'), network(2))
