"""`restore_path`: pictures and folders through trained weights."""

import cv2
import numpy as np
import pytest
import torch
import yaml
from skimage import data

from pdan_plugin.archs import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.restoration import load_trained_network, restore_path

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
def photo():
    return np.ascontiguousarray(data.astronaut()[100:140, 200:230, ::-1])


def test_a_picture_is_what_the_network_gives(experiment, photo, tmp_path):
    weights, network = experiment
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'out', weights) == 0
    with torch.inference_mode():
        rgb = torch.from_numpy(photo[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
        expected = network(rgb)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()[..., ::-1]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'out/photo.png')), expected)


def test_the_target_may_be_a_file_name(experiment, photo, tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'sharp.bmp', experiment[0]) == 0
    assert cv2.imread(str(tmp_path / 'sharp.bmp')).shape == (160, 120, 3)


def test_a_folder_keeps_its_folders_and_one_bad_file_stops_nothing(experiment, photo, tmp_path, capsys):
    source = tmp_path / 'in'
    (source / 'clip').mkdir(parents=True)
    cv2.imwrite(str(source / 'a.png'), photo)
    cv2.imwrite(str(source / 'clip/grey.png'), photo[..., 0])
    cv2.imwrite(str(source / 'deep.png'), photo.astype(np.uint16) * 257)
    (source / 'broken.png').write_text('not a picture')
    assert restore_path(source, tmp_path / 'out', experiment[0]) == 1
    written = sorted(
        str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out').rglob('*') if path.is_file()
    )
    assert written == ['a.png', 'clip/grey.png']
    complaints = capsys.readouterr().err
    assert 'broken.png: cannot be decoded' in complaints
    assert 'deep.png: holds uint16' in complaints


def test_wrong_requests_write_nothing(experiment, photo, tmp_path):
    weights, _ = experiment
    (tmp_path / 'empty').mkdir()
    cv2.imwrite(str(tmp_path / 'photo.png'), photo)
    for source, used, complaint in [
        (tmp_path / 'absent', weights, 'no such picture or folder'),
        (tmp_path / 'empty', weights, 'no pictures'),
        (tmp_path / 'photo.png', tmp_path / 'absent.pth', 'no such weights file'),
    ]:
        with pytest.raises(RequestError, match=complaint):
            restore_path(source, tmp_path / 'out', used, weights.parent.parent / 'small.yml')
    assert not (tmp_path / 'out').exists()


def test_two_pictures_with_one_result_name_are_refused(experiment, photo, tmp_path):
    source = tmp_path / 'in'
    source.mkdir()
    cv2.imwrite(str(source / 'a.png'), photo)
    cv2.imwrite(str(source / 'a.bmp'), photo)
    with pytest.raises(RequestError, match=r'a\.png'):
        restore_path(source, tmp_path / 'out', experiment[0])


def test_a_picture_is_never_overwritten_by_its_result(experiment, photo, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    cv2.imwrite(str(folder / 'a.png'), photo)
    for source in (folder / 'a.png', folder):
        with pytest.raises(RequestError, match='overwritten'):
            restore_path(source, folder, experiment[0])
    assert restore_path(folder, folder / 'out', experiment[0]) == 0
    assert restore_path(folder, folder / 'out', experiment[0]) == 0  # the results are not restored in their turn
    assert [path.name for path in (folder / 'out').iterdir()] == ['a.png']


def test_weights_away_from_their_experiment_need_the_option_file(experiment, tmp_path):
    weights, _ = experiment
    alone = tmp_path / 'net_g.pth'
    alone.write_bytes(weights.read_bytes())
    with pytest.raises(RequestError, match='-opt FILE'):
        load_trained_network(alone)
    assert load_trained_network(alone, weights.parent.parent / 'small.yml').deblur_branch is None


def test_weights_of_another_network_are_refused(experiment, tmp_path):
    weights, _ = experiment
    other = tmp_path / 'other.yml'
    other.write_text(yaml.safe_dump({'network_g': {'type': 'PDAN'} | NETWORK | {'num_feat': 32}}))
    with pytest.raises(RequestError, match='does not fit'):
        load_trained_network(weights, other)


def test_weights_that_carry_code_are_refused(tmp_path, experiment):
    class Harmful:
        def __reduce__(self):
            return print, ('run',)

    torch.save({'params': Harmful()}, tmp_path / 'harmful.pth')
    with pytest.raises(RequestError, match=r'harmful\.pth'):
        load_trained_network(tmp_path / 'harmful.pth', experiment[0].parent.parent / 'small.yml')
