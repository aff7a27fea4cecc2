"""`basicsr export` where a file lies already: what is replaced, what is printed, and what is refused."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from pdan_plugin.archs import PDAN
from pdan_plugin.commands import main as cli
from pdan_plugin.weights.trained_network import NetworkRecord, save_trained_network

SMALL = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1, 'deblur_branch': False}
RECORD = NetworkRecord({'type': 'PDAN', **SMALL}, Path('small.yml'), 'small', 8)


def weights_of(path, **changes):
    network = PDAN(**SMALL).eval().requires_grad_(False)
    save_trained_network(network, replace(RECORD, **changes), path)
    return str(path)


@pytest.fixture
def weights(tmp_path):
    return weights_of(tmp_path / 'weights.safetensors')


@pytest.mark.parametrize('ending', ['onnx', 'safetensors'])
def test_only_an_earlier_export_is_replaced(weights, ending, tmp_path, capsys):
    output = tmp_path / f'it.{ending}'
    output.touch()  # as mktemp does
    assert cli.main(['export', weights, '-o', str(output)]) == 0
    longer = weights_of(tmp_path / 'longer.safetensors', iteration=9)
    assert cli.main(['export', longer, '-o', str(output), '--fp16']) == 0
    assert '--overwrite' not in capsys.readouterr().out
    other = weights_of(tmp_path / 'other.safetensors', name='other')
    assert cli.main(['export', other, '-o', str(output)]) == 0
    assert 'the export of PDAN (small) is replaced by that of PDAN (other)' in capsys.readouterr().out

    foreign = {'onnx': b'of yesterday', 'safetensors': None}[ending]
    if foreign is None:
        save_file({'weight': torch.zeros(2)}, output, {'format': 'pt'})
    else:
        output.write_bytes(foreign)
    before = output.read_bytes()
    assert cli.main(['export', weights, '-o', str(output)]) == 2
    assert f'{output} exists already and was not written by basicsr export' in capsys.readouterr().err
    assert output.read_bytes() == before
    assert cli.main(['export', weights, '-o', str(output), '--overwrite']) == 0
    assert output.read_bytes() != before


def test_the_model_of_another_program_is_kept(weights, tmp_path, capsys):
    graph = onnx.helper.make_graph([], 'empty', [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / 'it.onnx')
    before = (tmp_path / 'it.onnx').read_bytes()
    assert cli.main(['export', weights, '-o', str(tmp_path / 'it.onnx')]) == 2
    assert '--overwrite' in capsys.readouterr().err
    assert (tmp_path / 'it.onnx').read_bytes() == before
