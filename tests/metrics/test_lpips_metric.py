"""LPIPS is the lpips package's own number on the same weights, or a refusal that says what is missing."""

import logging
import math
import os
import pickle
import re
import signal
import sys
import warnings

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from skimage import data

from pdan_plugin.errors import RequestError
from pdan_plugin.metrics import lpips_metric, noted_once
from pdan_plugin.metrics.preparation import prepare_metrics

lpips = pytest.importorskip('lpips', reason='pip install lpips')
torchvision = pytest.importorskip('torchvision')


@pytest.fixture(scope='module')
def backbone():
    torch.manual_seed(0)
    return torchvision.models.AlexNet().features


@pytest.fixture
def weights(backbone, tmp_path):
    """A file of an AlexNet's form, without its classifier, which LPIPS does not use."""
    file = tmp_path / 'alexnet.pth'
    torch.save({f'features.{name}': value for name, value in backbone.state_dict().items()}, file)
    return file


@pytest.fixture
def pair():
    """A photograph with strong colours and a blurred copy, (h, w, 3) uint8 BGR."""
    picture = np.ascontiguousarray(data.astronaut()[:96, 180:260, ::-1])
    return picture, cv2.GaussianBlur(picture, (0, 0), 1.5)


def by_hand(backbone, first, second, *, order=slice(None, None, -1), low=-1.0):
    """The package's own number; its network is given torchvision's layers, not a file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        network = lpips.LPIPS(net='alex', pnet_rand=True, verbose=False)
    for piece in (getattr(network.net, f'slice{number}') for number in range(1, 6)):
        for number, layer in piece.named_children():
            layer.load_state_dict(backbone[int(number)].state_dict())
    batches = [
        torch.tensor(each[..., order].copy()).permute(2, 0, 1)[None].double().div(255) * (1 - low) + low
        for each in (first, second)
    ]
    with torch.no_grad():
        return network.double()(*batches).item()


def test_the_number_is_the_packages(backbone, weights, pair):
    expected = by_hand(backbone, *pair)
    options = {'type': 'calculate_lpips', 'crop_border': 0, 'weights': str(weights), 'better': 'lower'}
    found = calculate_metric({'img': pair[0], 'img2': pair[1]}, options)
    assert found == pytest.approx(expected, rel=1e-4)
    # other ways to feed it would be told from it
    assert by_hand(backbone, *pair, order=slice(None)) != pytest.approx(expected, rel=1e-2)
    assert by_hand(backbone, *pair, low=0.0) != pytest.approx(expected, rel=1e-2)


def test_borders_and_orders(weights, pair):
    inner = [each[4:-4, 4:-4] for each in pair]
    expected = lpips_metric.calculate_lpips(*inner, crop_border=0, weights=str(weights))
    assert lpips_metric.calculate_lpips(*pair, crop_border=4, weights=str(weights)) == expected
    turned = [each.transpose(2, 0, 1) for each in pair]
    assert lpips_metric.calculate_lpips(*turned, crop_border=4, input_order='CHW', weights=str(weights)) == expected
    assert lpips_metric.calculate_lpips(pair[0], pair[0], crop_border=0, weights=str(weights)) == 0


def test_the_weights_are_loaded_once(weights):
    assert lpips_metric.load_lpips(weights=str(weights)) is lpips_metric.load_lpips(weights=str(weights))


@pytest.mark.parametrize('given', [True, False])
def test_missing_weights_are_told_with_where_to_get_them(tmp_path, monkeypatch, given):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    options = {'type': 'calculate_lpips', 'crop_border': 0}
    path = tmp_path / 'hub/checkpoints/alexnet-owt-7be5be79.pth'
    if given:
        path = tmp_path / 'mine.pth'
        options['weights'] = str(path)
    with pytest.raises(RequestError, match=r'val\.metrics\.lpips') as refusal:
        prepare_metrics({'lpips': options})
    assert str(path) in str(refusal.value)
    assert 'https://download.pytorch.org/models/alexnet-owt-7be5be79.pth' in str(refusal.value)


class Code:
    def __reduce__(self):
        return print, ('run',)


@pytest.mark.parametrize('fault', ['another network', 'one layer short', 'no weights', 'code', 'text', 'nan', 'digest'])
def test_a_file_that_does_not_fit_is_refused(backbone, tmp_path, capsys, fault):
    state = {f'features.{name}': value for name, value in backbone.state_dict().items()}
    file = tmp_path / ('alexnet-owt-7be5be79.pth' if fault == 'digest' else 'file.pth')
    if fault == 'another network':
        state['features.3.weight'] = torch.zeros(192, 64, 3, 3)
    elif fault == 'one layer short':
        del state['features.10.bias']
    elif fault == 'nan':
        state['features.0.bias'] = torch.full((64,), float('nan'))
    elif fault == 'no weights':
        state = [1, 2]
    torch.save(state, file)
    if fault == 'code':
        file.write_bytes(pickle.dumps(Code()))
    elif fault == 'text':
        file.write_text('not weights')
    with pytest.raises(RequestError, match=re.escape(str(file))):
        lpips_metric.prepare(weights=str(file))
    assert 'run' not in capsys.readouterr().out


def test_the_package_missing_is_told(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lpips', None)
    with pytest.raises(RequestError, match='pip install lpips'):
        lpips_metric.prepare(weights=str(weights))


def test_a_picture_too_small_for_the_network_is_scored_as_nan_with_one_note(weights, caplog, monkeypatch):
    """It ended the validation, and all samples behind it had no score."""
    noted_once.forget_notes()
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [caplog.handler])
    colour = np.zeros((40, 44, 3), np.uint8)
    for border in (8, 8, 30):
        assert math.isnan(lpips_metric.calculate_lpips(colour, colour, crop_border=border, weights=str(weights)))
    assert [record.getMessage() for record in caplog.records] == [
        'LPIPS needs at least 32x32 pixels, found 28x24; scored as nan',
        'LPIPS needs at least 32x32 pixels, found 0x0; scored as nan',
    ]
    assert lpips_metric.calculate_lpips(colour, colour, crop_border=4, weights=str(weights)) == 0


def test_pictures_that_cannot_be_compared_are_refused(weights):
    colour = np.zeros((40, 40, 3), np.uint8)
    for first, second, border in (
        (colour[..., :1], colour[..., :1], 0),
        (colour, colour[1:], 0),
    ):
        with pytest.raises(RequestError, match='LPIPS'):
            lpips_metric.calculate_lpips(first, second, crop_border=border, weights=str(weights))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system forks no processes')
def test_a_process_forked_while_a_thread_scores_can_score(weights):
    with lpips_metric._lock:  # as a thread that scores holds it
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends a child that waits for ever
            lpips_metric.load_lpips(weights=str(weights))
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
