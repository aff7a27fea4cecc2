"""What is read out of a weights file, and how everything else is refused."""

import argparse
import collections
import contextlib
import datetime
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.models.base_model import BaseModel
from safetensors.torch import save_file
from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.models.restoration_model import RestorationModel
from pdan_plugin.models.result_names import result_name
from pdan_plugin.training.checkpoints import read_state
from pdan_plugin.weights.weights_file import (
    in_float16,
    read_any_weights,
    read_metadata,
    read_weights,
    write_safetensors,
)

WEIGHTS = {'conv.weight': torch.ones(2)}


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / 'net_g.pth')
        return str(tmp_path / 'net_g.pth')

    return save


@pytest.mark.parametrize(
    'prefix',
    ['', 'module.', '_orig_mod.', '_orig_mod.module.', 'module._orig_mod.', 'module._orig_mod.module._orig_mod.',
     'module.module.', '_forward_module.module.', '_fsdp_wrapped_module._orig_mod.',
     'module._checkpoint_wrapped_module.'],
)  # fmt: skip
def test_wrapping_prefixes_are_taken_off(saved, prefix):
    path = saved({'params': {f'{prefix}conv.weight': torch.ones(2)}})
    assert list(read_weights(path)) == ['conv.weight']


def test_average_falls_back_to_params(saved):
    assert list(read_weights(saved({'params': WEIGHTS}), 'params_ema')) == ['conv.weight']


@pytest.mark.parametrize('content', [WEIGHTS, {'params': WEIGHTS}, {'params': {}, 'params_ema': WEIGHTS}])
def test_any_form_is_read_for_use(saved, content):
    weights, key = read_any_weights(saved(content))
    assert list(weights) == ['conv.weight']
    assert key == next((name for name in ('params_ema', 'params') if name in content), None)


@pytest.mark.parametrize(
    ('content', 'complaint'),
    [
        ({'params_ema': WEIGHTS}, 'params_ema'),
        (torch.ones(3), 'dict of names and tensors'),
        ({'params': [1]}, 'dict of names and tensors'),
        ({'params': {1: torch.ones(2)}}, 'dict of names and tensors'),
        ({'iter': 3, 'epoch': 0, 'optimizers': [], 'schedulers': []}, 'training state'),
        (nn.Conv2d(1, 1, 1), 'Python objects'),
    ],
)
def test_other_files_are_refused_by_name(saved, content, complaint):
    with pytest.raises(RequestError, match=rf'net_g\.pth.*{complaint}'):
        read_weights(saved(content))


OTHER_FILES = {
    'git lfs pull': b'version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n',
    'it is a web page': b'\n<!DOCTYPE html><html><title>Virus scan warning</title></html>',
    'it is a gzip archive; unpack it': b'\x1f\x8b\x08' + bytes(50),
    'it is empty': b'',
    'it is a picture': b'\x89PNG\r\n\x1a\n' + bytes(50),
    'it is a tar archive; unpack it': b'x' * 257 + b'ustar' + bytes(250),
    r"it is a text \('Entry not found'\).*download": b'Entry not found\n',
    r"it is a text \('\{.error.*download": b'{"error":"Invalid username or password."}',
    r"it is a text \('<\?xml .*download": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    'it is zero bytes at its beginning.*download': bytes(700),
    'an archive .* without its end.*download': b'PK\x03\x04 torch writes such archives',
}


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
@pytest.mark.parametrize('said', OTHER_FILES)
def test_a_file_that_is_something_else_is_named(tmp_path, said, ending):
    path = tmp_path / f'net.{ending}'
    path.write_bytes(OTHER_FILES[said])
    with pytest.raises(RequestError, match=rf'net\.{ending} cannot be read as a weights file: .*{said}') as refused:
        read_weights(str(path))
    assert 'weights_only' not in str(refused.value)


@pytest.mark.parametrize(('member', 'said'), [('net/archive_format', 'a program'), ('w.npy', 'a NumPy archive')])
def test_archives_of_other_makers_are_named(tmp_path, member, said):
    with zipfile.ZipFile(tmp_path / 'net.pth', 'w') as archive:
        archive.writestr(member, b'content')
    with pytest.raises(RequestError, match=f'it is {said}'):
        read_weights(str(tmp_path / 'net.pth'))


def test_a_file_of_torch_is_read_under_the_name_of_safetensors(tmp_path):
    for number, is_archive in enumerate((True, False)):
        path = tmp_path / f'{number}.safetensors'
        torch.save({'params': WEIGHTS}, path, _use_new_zipfile_serialization=is_archive)
        assert read_weights(str(path)).keys() == WEIGHTS.keys()


BESIDE = {
    'scores': lambda: {'psnr': np.float64(31), 'epoch': np.int64(3), 'state': np.random.default_rng(0).random(3)},
    'arguments': lambda: {'args': argparse.Namespace(lr=1, folder=Path('here'), when=datetime.datetime(2024, 1, 1))},
    'a dict': lambda: collections.defaultdict(list, {'a': [1]}),
}


@pytest.mark.parametrize('is_archive', [True, False])
@pytest.mark.parametrize('beside', BESIDE)
def test_what_trainers_keep_beside_the_weights_is_left_out(tmp_path, beside, is_archive):
    content = {'state_dict': WEIGHTS, 7: 'an epoch', 'more': BESIDE[beside]()}
    torch.save(content, tmp_path / 'net.ckpt', _use_new_zipfile_serialization=is_archive)
    found = read_any_weights(str(tmp_path / 'net.ckpt'), WEIGHTS)[0]
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


def test_code_in_the_arguments_is_not_run(tmp_path):
    """Nor is NumPy's own unpickling, which trusts what it reads."""
    content = {'params': WEIGHTS, 'args': argparse.Namespace(note=Harmful(tmp_path / 'ran')), 'psnr': np.float64(3)}
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(RequestError, match=r'is not loaded.*\(\w+\.system\)'):
        read_weights(str(tmp_path / 'net.pth'))
    assert not (tmp_path / 'ran').exists()


class Evaluated:
    def __reduce__(self):
        return eval, ('1',)


def test_a_builtin_function_in_a_file_is_named(tmp_path):
    torch.save({'params': WEIGHTS, 'note': Evaluated()}, tmp_path / 'net.pth')
    with pytest.raises(RequestError, match=r'is not loaded: it holds Python objects \(builtins\.eval\)'):
        read_weights(str(tmp_path / 'net.pth'))


OTHER_KINDS = {
    'quantised': lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    'torch.int8': lambda value: value.to(torch.int8),
    'torch.complex64': lambda value: value.to(torch.complex64),
    'not stored densely': lambda value: value.to_sparse(),
    'without values': lambda value: value.to('meta'),
}


@pytest.mark.parametrize('kind', OTHER_KINDS)
def test_weights_of_another_kind_of_number_are_refused(tmp_path, kind):
    """Torch copied whole numbers into a network as they were."""
    content = {name: OTHER_KINDS[kind](value) for name, value in WEIGHTS.items()}
    torch.save({'params': content}, tmp_path / 'net.pth')
    name = next(iter(WEIGHTS))
    with pytest.raises(RequestError, match=rf'net\.pth: {name} is .*{kind}.*before they were quantised'):
        read_weights(str(tmp_path / 'net.pth'), own=WEIGHTS)


def test_weights_in_an_archive_are_not_called_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / 'net.pth', 'w') as archive:
        archive.writestr('weights/net_g.pth', b'weights')
    with pytest.raises(RequestError, match='it is a zip archive; unpack it'):
        read_weights(str(tmp_path / 'net.pth'))


def test_an_average_that_is_null_is_none(saved):
    path = saved({'params': WEIGHTS, 'params_ema': None})
    for weights in (read_weights(path, 'params_ema'), read_any_weights(path)[0]):
        assert weights.keys() == WEIGHTS.keys()


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 half a file', b'text'])
def test_a_damaged_file_is_refused_with_a_reason(tmp_path, content):
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(RequestError, match=r'broken\.pth.*\w{3}'):
        read_weights(str(tmp_path / 'broken.pth'))


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


def harmful_file(form, path, marker):
    content = {'params': {'conv.weight': torch.ones(2)}, 'note': Harmful(marker)}
    if form == 'pickle':
        path.write_bytes(pickle.dumps({'note': Harmful(marker)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')


def of_model(path):
    model = RestorationModel.__new__(RestorationModel)  # a network as train and test load it, without a run around
    model.opt, model.device = {'dist': False}, torch.device('cpu')
    model.load_network(nn.Conv2d(1, 1, 1), path)


def of_stock_model(path):
    model = BaseModel({'num_gpu': 0, 'is_train': False})
    model.load_network(nn.Conv2d(1, 1, 1), path)


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
@pytest.mark.parametrize(
    ('load', 'name', 'error'),
    [
        (read_any_weights, 'net_g.pth', RequestError),
        (read_any_weights, 'net_g.safetensors', RequestError),
        (of_model, 'net_g.pth', RequestError),
        (of_model, 'net_g.safetensors', RequestError),
        (read_state, '8.state', RequestError),
        (of_stock_model, 'net_g.pth', RequestError),
        (of_stock_model, 'net_g.safetensors', RequestError),
    ],
)
def test_code_in_a_file_is_never_run(tmp_path, form, load, name, error):
    path = tmp_path / name
    harmful_file(form, path, tmp_path / 'ran')
    with pytest.raises(error):
        load(str(path))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
def test_the_harmful_file_is_one(tmp_path, form):
    harmful_file(form, tmp_path / 'net_g.pth', tmp_path / 'ran')
    with contextlib.suppress(RuntimeError):  # a bare pickle is no file of torch's, which it learns too late
        torch.load(tmp_path / 'net_g.pth', weights_only=False)
    assert (tmp_path / 'ran').exists()


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
@pytest.mark.parametrize(
    ('load', 'way_out'),
    [
        (read_weights, 'state_dict.*safetensors'),
        (of_stock_model, 'state_dict.*safetensors'),
        (read_state, 'start a new run'),
    ],
)
def test_a_file_with_code_is_refused_with_the_reason_and_what_to_do(tmp_path, form, load, way_out):
    harmful_file(form, tmp_path / 'net_g.pth', tmp_path / 'ran')
    with pytest.raises(RequestError, match=rf'net_g\.pth is not loaded.*\(\w+\.system\).*{way_out}') as refused:
        load(str(tmp_path / 'net_g.pth'))
    assert 'weights_only' not in str(refused.value)


@pytest.mark.parametrize('name', ['net_g.safetensors', 'renamed.pth'])
def test_a_stock_model_reads_safetensors_too(tmp_path, name):
    network, other = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    save_file(network.state_dict(), tmp_path / name)
    BaseModel({'num_gpu': 0, 'is_train': False}).load_network(other, str(tmp_path / name))
    assert torch.equal(other.weight, network.weight)
    save_file(WEIGHTS, tmp_path / name)
    with pytest.raises(RequestError, match=rf'{name} does not fit Conv2d'):
        of_stock_model(str(tmp_path / name))


@pytest.mark.parametrize('param_key', ['params', 'params_ema', None])
def test_safetensors_are_weights_under_no_key(tmp_path, param_key):
    save_file({'module.conv.weight': torch.ones(2)}, tmp_path / 'net_g.safetensors')
    weights = read_weights(str(tmp_path / 'net_g.safetensors'), param_key)
    assert weights['conv.weight'].tolist() == [1, 1]


def test_a_key_that_safetensors_cannot_have_is_refused(tmp_path):
    save_file(WEIGHTS, tmp_path / 'net_g.safetensors')
    with pytest.raises(RequestError, match=r"'teacher' cannot be read.*param_key_g"):
        read_weights(str(tmp_path / 'net_g.safetensors'), 'teacher')


def test_safetensors_under_another_name_are_read(tmp_path):
    save_file(WEIGHTS, tmp_path / 'net_g.bin')
    assert list(read_weights(str(tmp_path / 'net_g.bin'))) == ['conv.weight']


def test_a_model_loads_float16_safetensors_as_pretrained(tmp_path):
    network, other = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    path = tmp_path / 'net_g.safetensors'
    write_safetensors(path, in_float16(network.state_dict(), path), {})
    model = RestorationModel.__new__(RestorationModel)
    model.load_network(other, str(path))
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, network.weight.half().float())


def test_tensors_of_any_layout_are_written(tmp_path):
    shared = torch.rand(4, 3, 3, 3).to(memory_format=torch.channels_last)
    path = tmp_path / 'net_g.safetensors'
    write_safetensors(path, {'a': shared, 'b': shared, 'c': shared[:2]}, {'name': 'small'})
    found = read_weights(str(path))
    assert torch.equal(found['a'], shared)
    assert torch.equal(found['c'], shared[:2])
    assert read_metadata(path)['name'] == 'small'


def test_a_failed_write_keeps_what_was_there(tmp_path):
    path = tmp_path / 'net_g.safetensors'
    write_safetensors(path, WEIGHTS, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_safetensors(path, WEIGHTS, {'name': 3})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('kept', [5, 60, -1])
def test_safetensors_cut_short_are_refused(tmp_path, kept):
    path = tmp_path / 'net_g.safetensors'
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        RequestError, match=r'net_g\.safetensors is not a complete safetensors file \(.+\).*copy it again'
    ):
        read_weights(str(path))


@pytest.mark.parametrize('name', ['folder.pth', 'folder.safetensors'])
def test_a_folder_is_no_weights_file(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(RequestError, match=f'{name} is a folder'):
        read_weights(str(tmp_path / name))


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
