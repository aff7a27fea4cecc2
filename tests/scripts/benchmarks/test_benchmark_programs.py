"""The benchmark of a trained network in several programs: all compute the same picture, and the ratios belong to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import programs
from pdan_plugin.archs.pdan_arch import PDAN

REPOSITORY = Path(__file__).parents[3]
TINY = {'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1, 'deblur_branch': False}
# In a process of its own: after these runtimes, processes of tests have ended in memory faults.
COMPARING = """
import json, sys, torch
from pathlib import Path
from benchmarks import infer, programs
infer.SIZE = (12, 20)
weights, options = map(Path, sys.argv[1:])
result = programs.benchmark_programs(weights, options, rounds=1, device=torch.device('cpu'), size=(12, 20))
print(programs.table(result), file=sys.stderr)
print(json.dumps(result), flush=True)
"""


@pytest.fixture
def weights(tmp_path):
    """A network and its option file."""
    torch.manual_seed(0)
    torch.save({'params': PDAN(**TINY).state_dict()}, tmp_path / 'net.pth')
    (tmp_path / 'options.yml').write_text('network_g: ' + json.dumps({'type': 'PDAN', **TINY}))
    return tmp_path / 'net.pth', tmp_path / 'options.yml'


@pytest.mark.long  # ONNX Runtime and OpenVINO compute the same: tests/weights/test_onnx_export.py
def test_all_programs_compute_the_same_picture(weights):
    for package in ('onnxruntime', 'onnxscript', 'openvino'):
        pytest.importorskip(package)
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / 'scripts')))
    done = subprocess.run(
        [sys.executable, '-c', COMPARING, *weights],
        capture_output=True, text=True, timeout=600, env={**os.environ, 'PYTHONPATH': path},
    )  # fmt: skip
    assert done.stdout, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    names = ['this project, fp32', 'this project, bf16', 'ONNX Runtime, fp32', 'OpenVINO, fp32', 'OpenVINO, bf16']
    assert list(result['seconds']) == ['plain torch, fp32', *names]
    assert {name for name, levels in result['grey_levels'].items() if levels <= 1} >= {n for n in names if 'fp32' in n}
    seconds = result['seconds']
    assert result['against']['OpenVINO, bf16'] == seconds['OpenVINO, bf16'] / seconds['this project, bf16']
    assert result['against']['OpenVINO, fp32'] == seconds['OpenVINO, fp32'] / seconds['this project, fp32']
    of_cores = result['processor_seconds']
    assert of_cores.keys() == seconds.keys()
    assert result['processor_against']['OpenVINO, bf16'] == of_cores['OpenVINO, bf16'] / of_cores['this project, bf16']
    assert result['missing'] == {}
    assert all(name in done.stderr for name in seconds)


def test_a_program_that_is_not_installed_is_named_with_its_command(tmp_path, monkeypatch):
    missing = {}
    for name in ('openvino', 'onnxruntime'):
        monkeypatch.setitem(sys.modules, name, None)
    assert programs._of_the_model(tmp_path / 'network.onnx', missing) == {}
    assert missing == {'ONNX Runtime': 'pip install onnxruntime', 'OpenVINO': 'pip install openvino'}
