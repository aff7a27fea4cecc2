"""The weights in the package restore a picture without being asked for, and better than bicubic."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from skimage import data
from small_run import changed, train_options, working_folder, write_options

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.option_file import read_option_file
from pdan_plugin.restoration import load_trained_network
from pdan_plugin.synthesis.bicubic import downsample_uint8, imresize
from pdan_plugin.weights.packaged_weights import DEFAULT, find_weights_file, packaged_weights


@pytest.mark.parametrize('name', packaged_weights())
def test_weights_are_small_and_know_their_network(name):
    path = packaged_weights()[name]
    with safe_open(path, 'pt') as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118  (no mapping)
    network = load_trained_network(path)
    parameters = sum(each.numel() for each in network.parameters())
    most = {'pdan_small': (3e6, 6e6), 'pdan_medium': (np.inf, 30e6)}[name]
    assert parameters <= most[0]
    assert path.stat().st_size <= most[1]
    assert all(each.dtype == torch.float32 for each in network.parameters())


def test_an_option_file_names_them_where_a_file_may_stand(tmp_path, monkeypatch, capsys):
    folder = working_folder(tmp_path, monkeypatch)
    with safe_open(packaged_weights()[DEFAULT], 'pt') as file:
        network = json.loads(file.metadata()['network_g'])
    options = changed(
        train_options() | {'model_type': 'RestorationModel', 'network_g': network}, 'path.pretrain_network_g', DEFAULT
    )
    write_options(folder, options)
    assert cli.main(['check', '-opt', 'small.yml']) == 0
    assert 'Next: basicsr train' in capsys.readouterr().out
    write_options(folder, changed(options, 'network_g.num_feat', 24))
    assert cli.main(['check', '-opt', 'small.yml']) == 2
    assert 'does not fit network_g' in capsys.readouterr().err  # so they were read
    write_options(folder, changed(options, 'path.pretrain_network_g', 'pdan_smal'))
    assert cli.main(['check', '-opt', 'small.yml']) == 2
    message = capsys.readouterr().err
    assert 'pdan_smal does not exist (relative to the working folder)' in message
    assert f'or a name of packaged weights ({DEFAULT})' in message


def test_a_word_is_a_file_then_a_name_then_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = packaged_weights()[DEFAULT]
    (tmp_path / DEFAULT).mkdir()  # of an experiment, perhaps
    assert find_weights_file(Path(DEFAULT)) == (packaged, True)
    (tmp_path / 'mine').mkdir()
    with pytest.raises(RequestError, match='mine is a folder'):
        load_trained_network('mine')
    with pytest.raises(RequestError, match=rf"{DEFAULT}\.pth: no such.*did you mean '{DEFAULT}'"):
        find_weights_file(Path(f'{DEFAULT}.pth'))
    (tmp_path / f'{DEFAULT}.pth').touch()
    assert find_weights_file(Path(f'{DEFAULT}.pth')) == (Path(f'{DEFAULT}.pth'), False)


def test_the_option_file_for_own_pictures_starts_from_them():
    """Its network is that of the weights, as docs/own_pairs.md says."""
    values = read_option_file(Path(__file__).parents[2] / 'options/own_pairs.yml')['network_g']
    own = {key: values[key] for key in values if key != 'type'}
    PDAN(**own).load_state_dict(load_trained_network(packaged_weights()['pdan_small']).state_dict())


def test_a_picture_is_restored_without_naming_weights(tmp_path, capsys):
    sharp = np.ascontiguousarray(data.astronaut()[:256, 96:352])
    blurred = cv2.blur(sharp, (5, 1))
    small = downsample_uint8(blurred, 4)
    cv2.imwrite(str(tmp_path / 'photo.png'), small[..., ::-1])
    assert cli.main(['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out')]) == 0
    told = capsys.readouterr().out
    assert DEFAULT in told
    assert '-w' not in told  # neither does the next command need them
    restored = cv2.imread(str(tmp_path / 'out' / 'photo.png'))[..., ::-1].astype(float)
    planes = torch.from_numpy(small).permute(2, 0, 1)[None].double()
    bicubic = imresize(planes, 4)[0].permute(1, 2, 0).clamp(0, 255).numpy()
    assert np.square(restored - sharp).mean() < 0.85 * np.square(bicubic - sharp).mean()


def test_a_file_of_the_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, is_packaged = find_weights_file(packaged_weights()[DEFAULT].parent / f'{DEFAULT}.safetensors')
    assert path.is_file()
    assert not is_packaged
    named = type(path)(DEFAULT)
    named.mkdir()
    assert find_weights_file(named) == (packaged_weights()[DEFAULT], True)  # a folder is no weights file
    named.rmdir()
    named.write_bytes(b'own weights')
    assert find_weights_file(named) == (named, False)


def test_weights_that_are_not_there_are_told_with_those_that_are(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.zeros((8, 8, 3), np.uint8))
    command = ['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out'), '-w', 'pdan_smal']
    assert cli.main(command) == 2
    assert f"did you mean '{DEFAULT}'" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_an_option_file_asks_for_weights_of_ones_own(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'photo.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'own.yml').write_text('network_g: {type: EDSR}')
    command = ['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out'), '-opt', str(tmp_path / 'own.yml')]
    assert cli.main(command) == 2
    assert '-w FILE' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
