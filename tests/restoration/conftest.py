"""Fixtures of several files: weights, a photograph, a folder of pictures to restore, and restorers."""

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from repeating_network import Repeating, make_weights
from skimage import data

import pdan_plugin
from pdan_plugin.archs import PDAN
from pdan_plugin.restoration.restorer import Restorer

NETWORK = {'num_feat': 16, 'num_group': 2, 'num_block': 1, 'fuse_levels': 2}


@pytest.fixture
def experiment(tmp_path):
    """experiments/small with weights and the option file the trainer leaves there; the network itself."""
    network = PDAN(**NETWORK)
    models = tmp_path / 'experiments/small/models'
    models.mkdir(parents=True)
    ema = {name: value * 0.5 for name, value in network.state_dict().items()}
    torch.save({'params': network.state_dict(), 'params_ema': ema}, models / 'net_g_8.pth')
    (models.parent / 'small.yml').write_text(yaml.safe_dump({'network_g': {'type': 'PDAN'} | NETWORK}))
    network.load_state_dict(ema)
    return models / 'net_g_8.pth', network


@pytest.fixture
def weights(tmp_path):
    return make_weights(tmp_path, 'repeating')


@pytest.fixture
def photo():
    return np.ascontiguousarray(data.astronaut()[100:140, 200:230])


@pytest.fixture
def source(tmp_path, photo):
    """A folder: a picture, a grey one of 16 bits in a folder, a text named .png, a text, a hidden file."""
    folder = tmp_path / 'in'
    (folder / 'clip').mkdir(parents=True)
    Image.fromarray(photo).save(folder / 'a.png')
    cv2.imwrite(str(folder / 'clip/grey.png'), photo[..., 0].astype(np.uint16) * 256 + 7)
    (folder / 'text.png').write_text('Dear reader,')
    (folder / 'notes.txt').write_text('left alone')
    (folder / '._a.png').write_text('of another system')
    return folder


@pytest.fixture(scope='module')
def picture():
    """A face and a rocket on the dark half of a sky, at a size that no tile divides: (71, 95, 3)."""
    faces, sky = data.astronaut()[60:131, 160:207], data.rocket()[20:91, 300:348]
    return np.concatenate([faces, sky], axis=1)


@pytest.fixture
def at_once(monkeypatch):
    """A mock of a GPU, where four parts form a batch unless memory ran out: a CPU gets one at a time."""
    monkeypatch.setattr(Restorer, '_parts_at_once', lambda self, height, width: 1 if self._is_alone else 4)


@pytest.fixture(scope='module')
def twice():
    """A network that repeats every pixel: what it must return can be computed without it."""
    return pdan_plugin.Restorer(Repeating(2), 'cpu')
