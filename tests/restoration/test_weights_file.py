"""What is read out of a weights file, and how everything else is refused."""

import pytest
import torch
from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.models.result_names import result_name
from pdan_plugin.restoration.weights_file import read_any_weights, read_weights

WEIGHTS = {'conv.weight': torch.ones(2)}


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / 'net_g.pth')
        return str(tmp_path / 'net_g.pth')

    return save


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.'])
def test_wrapping_prefixes_are_taken_off(saved, prefix):
    path = saved({'params': {f'{prefix}conv.weight': torch.ones(2)}})
    assert list(read_weights(path)) == ['conv.weight']


def test_average_falls_back_to_params(saved):
    assert list(read_weights(saved({'params': WEIGHTS}), 'params_ema')) == ['conv.weight']


@pytest.mark.parametrize('content', [WEIGHTS, {'params': WEIGHTS}, {'params': {}, 'params_ema': WEIGHTS}])
def test_any_form_is_read_for_use(saved, content):
    assert list(read_any_weights(saved(content))) == ['conv.weight']


@pytest.mark.parametrize(
    ('content', 'complaint'),
    [
        ({'params_ema': WEIGHTS}, 'params_ema'),
        (torch.ones(3), 'table of names and tensors'),
        ({'params': [1]}, 'table of names and tensors'),
        ({'params': {1: torch.ones(2)}}, 'table of names and tensors'),
        ({'iter': 3, 'epoch': 0, 'optimizers': [], 'schedulers': []}, 'training state'),
        (nn.Conv2d(1, 1, 1), 'Python objects'),
    ],
)
def test_other_files_are_refused_by_name(saved, content, complaint):
    with pytest.raises(RequestError, match=rf'net_g\.pth.*{complaint}'):
        read_weights(saved(content))


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 half a file', b'text'])
def test_a_damaged_file_is_refused_with_a_reason(tmp_path, content):
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(RequestError, match=r'broken\.pth.*\w{3}'):
        read_weights(str(tmp_path / 'broken.pth'))


@pytest.mark.parametrize(
    ('lq_path', 'roots', 'name'),
    [
        ('/data/X4/000/00000009.png', ['/data/X4'], '000_00000009'),
        ('000/00000009', ['datasets/lq.lmdb'], '000_00000009'),
        ('datasets/b.lmdb/000/00000009', ['datasets/a.lmdb', 'datasets/b.lmdb'], '000_00000009'),
        ('datasets/Set5/LR/baby.png', ['datasets/Set5/LR'], 'baby'),
        ('baby.v1', ['datasets/lq.lmdb'], 'baby.v1'),
        ('/elsewhere/000/00000009.png', ['datasets/lq'], '000_00000009'),
    ],
)
def test_results_are_named_by_the_path_below_the_root(lq_path, roots, name):
    assert result_name(lq_path, roots) == name
