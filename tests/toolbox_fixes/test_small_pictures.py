"""The toolbox's own models test pictures that are smaller than their network accepts."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from pdan_plugin.commands import main as cli
from pdan_plugin.restoration.restorer import Restorer

UNET = {'type': 'SmallestSide', 'reach': 15, 'multiple': 4}
PATHS = {'pretrain_network_g': None, 'strict_load_g': True}


@ARCH_REGISTRY.register()
class SmallestSide(nn.Module):
    """Twice the size; it extends by reflection, and its sides must be multiples, as those of U-shaped networks."""

    def __init__(self, reach, multiple):
        super().__init__()
        self.multiple = multiple
        self.blur = nn.Sequential(nn.ReflectionPad2d(reach), nn.Conv2d(3, 3, 2 * reach + 1))

    def forward(self, x):
        if any(side % self.multiple for side in x.shape[-2:]):
            raise RuntimeError(f'{tuple(x.shape)}: sides must be multiples of {self.multiple}')
        return nn.functional.interpolate(self.blur(x), scale_factor=2)


def model_of(network, model_type='SRModel'):
    return build_model({
        'name': 'x', 'model_type': model_type, 'num_gpu': 0, 'dist': False, 'is_train': False, 'scale': 2,
        'network_g': dict(network), 'path': dict(PATHS), 'val': {},
    })  # fmt: skip


@pytest.mark.parametrize('model_type', ['SRModel', 'ESRGANModel'])
@pytest.mark.parametrize('size', [(12, 12), (3, 30), (17, 23), (16, 20)])
def test_a_picture_is_extended_as_for_restoration(size, model_type):
    torch.manual_seed(0)
    model = model_of(UNET, model_type)
    pixels = np.random.default_rng(0).integers(0, 65536, (*size, 3), dtype=np.uint16)
    picture = torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1)[None]
    model.feed_data({'lq': picture})
    is_training = model.net_g.training
    model.test()
    assert model.net_g.training == is_training
    assert model.lq.shape == picture.shape
    assert model.output.shape == (1, 3, 2 * size[0], 2 * size[1])
    expected = Restorer(model.net_g.eval(), 'cpu').restore_picture(pixels)
    found = (model.output[0].permute(1, 2, 0).clamp(0, 1) * 65535).numpy()
    assert np.abs(found - expected).max() < 1


def test_a_network_that_fails_for_another_reason_is_not_tried_again():
    model = model_of(UNET)
    model.feed_data({'lq': torch.rand(1, 5, 32, 32)})
    with pytest.raises(RuntimeError, match='to have 3 channels'):
        model.test()
    assert model.lq.shape == (1, 5, 32, 32)


def test_a_test_run_scores_small_pictures(tmp_path, sr_options, monkeypatch):
    """Of 12x12 pixels; the network needs 16."""
    network = dict(UNET) | {'reach': 12}
    options = yaml.safe_load(sr_options().read_text())
    torch.save({'params': build_network(dict(network)).state_dict()}, tmp_path / 'weights.pth')
    data = options['datasets']['val']
    test = {key: options[key] for key in ('name', 'model_type', 'num_gpu')} | {
        'scale': 2, 'network_g': network, 'datasets': {'test_1': data | {'dataroot_gt': str(tmp_path / 'gt')}},
        'path': {'pretrain_network_g': str(tmp_path / 'weights.pth')},
        'val': {'save_img': True, 'suffix': None, 'metrics': options['val']['metrics']},
    }  # fmt: skip
    _half_size(data['dataroot_gt'], tmp_path / 'gt')
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(test))
    monkeypatch.chdir(tmp_path)
    assert cli.main(['test', '-opt', 'test.yml']) == 0
    assert len(list((tmp_path / 'results').rglob('*.png'))) == 6


def _half_size(source, target):
    target.mkdir()
    for path in Path(source).iterdir():
        cv2.imwrite(str(target / path.name), np.ascontiguousarray(cv2.imread(str(path))[::2, ::2]))
