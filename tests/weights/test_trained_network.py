"""A network from its weights file alone: what safetensors say of it, and what is said where they do not."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from skimage import data

from pdan_plugin.archs import PDAN
from pdan_plugin.commands.main import main
from pdan_plugin.errors import RequestError
from pdan_plugin.weights.network_export import export_network
from pdan_plugin.weights.trained_network import load_recorded_network, load_trained_network, network_record

NETWORK = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1}
OPTIONS = {'network_g': {'type': 'PDAN'} | NETWORK, 'name': 'small'}
PICTURE = torch.from_numpy(data.astronaut()[None, :24, 100:130].astype(np.float32) / 255).permute(0, 3, 1, 2)


@pytest.fixture
def trained(tmp_path):
    """experiments/small as the trainer leaves it: the weights file with both sets, and the option file."""
    models = tmp_path / 'experiments/small/models'
    models.mkdir(parents=True)
    network = PDAN(**NETWORK)
    ema = {name: value * 0.5 for name, value in network.state_dict().items()}
    torch.save({'params': network.state_dict(), 'params_ema': ema}, models / 'net_g_8.pth')
    (models.parent / 'small.yml').write_text(yaml.safe_dump(OPTIONS))
    return models / 'net_g_8.pth'


@pytest.fixture
def alone(tmp_path):
    """Writes a safetensors file of the network's weights with the metadata it is called with."""

    def write(**metadata):
        save_file(PDAN(**NETWORK, deblur_branch=False).state_dict(), tmp_path / 'net.safetensors', metadata)
        return tmp_path / 'net.safetensors'

    return write


@pytest.mark.parametrize('float16', [False, True])
def test_safetensors_need_no_experiment_folder(trained, tmp_path, float16):
    lone = tmp_path / 'lone/sharp.safetensors'
    export_network(trained, lone, float16=float16)
    network, expected = load_trained_network(lone), load_trained_network(trained)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        difference = (network(PICTURE) - expected(PICTURE)).abs().max().item()
    assert difference <= (1 / 255 if float16 else 0)
    record = network_record(lone)
    assert (record.name, record.iteration) == ('small', 8)
    assert load_recorded_network(lone)[1].param_key == 'params_ema'
    assert lone.stat().st_size < trained.stat().st_size / (4 if float16 else 2)


def test_a_picture_is_restored_by_safetensors_alone(trained, tmp_path):
    lone = tmp_path / 'lone/sharp.safetensors'
    export_network(trained, lone)
    cv2.imwrite(str(tmp_path / 'photo.png'), np.ascontiguousarray(data.astronaut()[:24, 100:130, ::-1]))
    pictures = []
    for weights in (trained, lone):
        words = [str(tmp_path / 'photo.png'), '-o', str(tmp_path / f'{weights.stem}.png'), '-w', str(weights)]
        assert main(['restore', *words]) == 0
        pictures.append(cv2.imread(str(tmp_path / f'{weights.stem}.png')))
    np.testing.assert_array_equal(*pictures)


def test_safetensors_of_other_makers_are_recognised_or_need_the_option_file(alone, trained):
    weights = alone(format='pt')
    assert load_trained_network(weights).fused_groups == [0]
    assert load_trained_network(weights, trained.parent.parent / 'small.yml').deblur_branch is None


@pytest.mark.parametrize(
    ('metadata', 'complaint'),
    [
        ({'network_g': '{"type": "PDAN", ', 'format_version': '1'}, 'cannot be read'),
        ({'network_g': '[]', 'format_version': '1'}, 'network_g with a type is missing'),
        ({'network_g': '{"type": "PDAM"}', 'format_version': '1'}, "did you mean 'PDAN'"),
        ({'network_g': '{"type": "PDAN", "width": 3}', 'format_version': '1'}, 'cannot be built'),
        ({'network_g': json.dumps(OPTIONS['network_g'] | {'num_feat': 32}), 'format_version': '1'}, 'does not fit'),
        ({'network_g': '{"type": "PDAN"}', 'format_version': '2', 'pdan_plugin': '9.0'}, 'format_version 2.*9.0'),
        ({'network_g': '{"type": "PDAN"}', 'format_version': '1', 'iteration': 'soon'}, 'cannot be read'),
    ],
)
def test_metadata_that_is_wrong_is_told_and_passed_by_with_an_option_file(alone, trained, metadata, complaint):
    weights = alone(**metadata)
    with pytest.raises(RequestError, match=rf'(?s)net\.safetensors.*{complaint}'):
        load_trained_network(weights)
    load_trained_network(weights, trained.parent.parent / 'small.yml')


def test_what_is_not_there_is_said_before_the_option_file_is_missed(tmp_path):
    with pytest.raises(RequestError, match='no such weights file'):
        load_trained_network(tmp_path / 'absent.safetensors')


def test_weights_of_the_package_are_exported_by_their_name(tmp_path):
    export_network(Path('pdan_small'), tmp_path / 'own.safetensors', float16=True)
    assert (tmp_path / 'own.safetensors').stat().st_size < 6e6
    with pytest.raises(RequestError, match=r"pdan_smal: no such weights file.*did you mean 'pdan_small'"):
        export_network(Path('pdan_smal'), tmp_path / 'other.safetensors')


def test_a_file_of_another_kind_is_not_asked_for_its_network(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(RequestError, match=r'a\.png cannot be read as a weights file'):
        load_trained_network(tmp_path / 'a.png')


THEIRS = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn
@ARCH_REGISTRY.register()
class TheirNet(nn.Module):
    def __init__(self, features: int = 4, bias: bool = True):
        super().__init__()
        first = nn.Conv2d(3, features, 3, padding=1, bias=bias)
        self.layers = nn.Sequential(first, nn.Conv2d(features, 3, 3, padding=1))
    def forward(self, x):
        return x + self.layers(x)
"""


def test_the_plugins_of_the_option_file_build_the_network(python, tmp_path):
    """What `train` prints as the next command works for another project's network; so does its export."""
    models = tmp_path / 'experiments/theirs/models'
    models.mkdir(parents=True)
    (tmp_path / 'their_archs.py').write_text(THEIRS)
    options = {'network_g': {'type': 'TheirNet', 'features': None}, 'plugins': ['their_archs'], 'name': 'theirs'}
    (models.parent / 'theirs.yml').write_text(yaml.safe_dump(options))
    first, last = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 3, padding=1)
    state = torch.nn.Sequential(first, last).state_dict()
    torch.save({'params': {f'layers.{name}': value for name, value in state.items()}}, models / 'net_g_latest.pth')
    picture = data.astronaut()[:32, :40]
    cv2.imwrite(str(tmp_path / 'in.png'), picture[:, :, ::-1])
    done = python(
        'import sys\n'
        'from pathlib import Path\n'
        'from pdan_plugin import prepare_toolbox\n'
        'from pdan_plugin.commands.main import main\n'
        'from pdan_plugin.weights.network_export import export_network\n'
        'prepare_toolbox()\n'
        'weights = "experiments/theirs/models/net_g_latest.pth"\n'
        'if sys.argv[1] == "export":\n'
        '    export_network(Path(weights), Path("lone.safetensors"))\n'
        '    weights = "lone.safetensors"\n'
        'sys.exit(main(["restore", "in.png", "-o", sys.argv[1], "-w", weights]))\n',
        'restored',
    )
    assert done.returncode == 0, done.stderr
    x = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = (x + last(first(x)))[0].permute(1, 2, 0).clamp(0, 1).mul(255).round().numpy()[:, :, ::-1]
    np.testing.assert_allclose(cv2.imread(str(tmp_path / 'restored/in.png')), expected, atol=1)
    script = (tmp_path / 'script.py').read_text()
    done = python(script, 'export')
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(cv2.imread(str(tmp_path / 'export/in.png')), expected, atol=1)
