"""Weights that spandrel recognises, where it is installed: `basicsr restore -w 4x_any.pth`."""

import sys

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from pdan_plugin import Restorer, load_network
from pdan_plugin.commands.main import main
from pdan_plugin.errors import RequestError
from pdan_plugin.weights.trained_network import load_recorded_network, save_trained_network

PHOTO = np.ascontiguousarray(data.astronaut()[100:121, 60:89])


@pytest.fixture
def spandrel():
    return pytest.importorskip('spandrel')


@pytest.fixture
def safmn(spandrel, tmp_path):
    """A 2x network of another family, which takes multiples of 8 and pools in cells of 8."""
    from spandrel.architectures.SAFMN import SAFMN

    network = SAFMN(dim=8, n_blocks=1, upscaling_factor=2)
    with torch.no_grad():  # about grey, so that little is clipped
        network.to_img[0].weight.mul_(0.2)
        network.to_img[0].bias.fill_(0.5)
    torch.save({'params': network.state_dict()}, tmp_path / '2x_any.pth')
    return tmp_path / '2x_any.pth'


def test_restore_takes_any_file_that_spandrel_knows(spandrel, safmn, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.jpg'), PHOTO)
    words = ['restore', str(tmp_path / 'photo.jpg'), '-o', str(tmp_path / 'out'), '-w', str(safmn)]
    assert main([*words, '--precision', 'fp32']) == 0
    assert 'SAFMN, recognised by spandrel' in capsys.readouterr().out
    x = torch.from_numpy(cv2.imread(str(tmp_path / 'photo.jpg'))[..., ::-1].astype(np.float32) / 255)
    expected = spandrel.ModelLoader().load_from_file(safmn)(x.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    found = cv2.imread(str(tmp_path / 'out/photo.png'))[..., ::-1] / 255
    assert found.shape == (42, 58, 3)
    assert np.abs(found - expected.numpy()).max() <= 0.51 / 255


def test_its_tiles_fit_together(safmn):
    picture = np.tile(PHOTO, (5, 6, 1))
    whole = Restorer(safmn, 'cpu', tile=None)(picture).astype(int)
    tiled = Restorer(safmn, 'cpu', tile=96)
    assert np.abs(tiled(picture) - whole).max() <= 1
    assert 'Tiles of at most 96 pixels, overlap 40.' in tiled.notes


def test_export_writes_weights_that_load_again(spandrel, safmn, tmp_path):
    network, record = load_recorded_network(safmn)
    assert (record.options['architecture'], record.options['scale']) == ('SAFMN', 2)
    save_trained_network(network, record, tmp_path / 'own.safetensors')
    batch = torch.rand(1, 3, 16, 24)
    with pytest.raises(ValueError, match='multiple of 8'):
        network(batch[..., 1:])
    assert torch.equal(load_network(tmp_path / 'own.safetensors')(batch), network(batch))
    assert spandrel.ModelLoader().load_from_file(tmp_path / 'own.safetensors').scale == 2  # for other programs too


def test_what_does_not_restore_pictures_is_refused(spandrel, tmp_path):
    from spandrel.architectures.DnCNN import DnCNN

    torch.save(DnCNN(in_nc=1, out_nc=1, nc=8, nb=4).state_dict(), tmp_path / 'grey.pth')
    torch.save({'weight': torch.zeros(2, 2)}, tmp_path / 'none.pth')
    assert Restorer(tmp_path / 'grey.pth', 'cpu').channels == 1
    with pytest.raises(RequestError, match=r'none of PDAN.*SwinIR, and spandrel [\d.]+ does not know it'):
        load_network(tmp_path / 'none.pth')


def test_without_spandrel_the_command_that_brings_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    torch.save({'weight': torch.zeros(2, 2)}, tmp_path / 'none.pth')
    with pytest.raises(RequestError, match=r'pip install "pdan-plugin\[spandrel\]"'):
        load_network(tmp_path / 'none.pth')
