"""The networks need torch alone: in a process where the toolbox, and all that it brings, cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from basicsr.archs import arch_util, rcan_arch

from pdan_plugin.archs import DRN, PDAN, rcan_layers

REPOSITORY = Path(__file__).parents[2]
KEPT_AWAY = """
import importlib.abc, sys

class KeptAway(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

sys.meta_path.insert(0, KeptAway())
"""
NETWORKS = """
import json, sys
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.archs import Bicubic, DRN, fast_layers
import torch

torch.manual_seed(0)
x = torch.rand(1, 3, 12, 10)
results = {}
for name, network in (
    ('PDAN', PDAN(num_feat=8, num_group=2, num_block=1, squeeze_factor=2, fuse_levels=2)),
    ('DRN', DRN(num_feat=8, num_block=1, squeeze_factor=8)),
    ('Bicubic', Bicubic(upscale=2)),
):
    with torch.no_grad():
        results[name] = [float(value) for value in network(x).double().std(dim=(0, 2, 3))]
gates = torch.ones(1, 3, 1, 1), torch.ones(1, 1, 12, 10)
results['fast_layers'] = bool((fast_layers.gated_residual(x.clone(), x.clone(), *gates) == 3 * x).all())
results['absent'] = [name for name in ('basicsr', 'torchvision', 'pdan_plugin.toolbox_fixes') if name in sys.modules]
json.dump(results, open(sys.argv[1], 'w'))
"""
OTHERS = ('basicsr', 'cv2', 'lmdb', 'lpips', 'matplotlib', 'pydantic', 'safetensors', 'scipy', 'skimage', 'torchvision')


@pytest.fixture
def run(tmp_path):
    """run(script, names of packages that cannot be imported) -> the finished process, and what it wrote as JSON."""

    def run(script, *names):
        text = (KEPT_AWAY.format(names=names) if names else '') + script
        done = subprocess.run(
            [sys.executable, '-c', text, tmp_path / 'found.json'], cwd=tmp_path, capture_output=True, text=True,
            timeout=600, env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        found = tmp_path / 'found.json'
        return done, json.loads(found.read_text()) if found.exists() else None

    return run


def test_the_networks_run_without_the_toolbox_and_nothing_is_printed(run):
    done, alone = run(NETWORKS, *OTHERS)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert alone.pop('absent') == []
    assert alone.pop('fast_layers') is True
    done, beside = run(NETWORKS)
    assert done.returncode == 0, done.stderr
    assert beside.pop('absent') == ['basicsr', 'torchvision', 'pdan_plugin.toolbox_fixes']
    assert all(beside[name] == values for name, values in alone.items())


def test_what_needs_the_toolbox_says_so(run):
    script = 'import pdan_plugin, sys; print(pdan_plugin.__version__)\ntry: pdan_plugin.prepare_toolbox()\n'
    script += 'except pdan_plugin.errors.RequestError as error: print(error)'
    done, _ = run(script, 'basicsr')
    version, message = done.stdout.splitlines()
    assert version == __import__('pdan_plugin').__version__
    assert 'basicsr' in message
    command = "import runpy, sys; sys.argv = ['basicsr', 'plugins']; sys.orig_argv = ['python', 'basicsr', 'plugins']\n"
    done, _ = run(command + "runpy.run_module('pdan_plugin', run_name='__main__')", 'basicsr')
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.startswith('basicsr: ')
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('scale', [1, 2, 3, 4, 8])
def test_the_upsampling_is_the_toolbox_s(scale):
    _same(rcan_layers.Upsample, arch_util.Upsample, scale, 4)


@pytest.mark.parametrize('squeeze_factor', [1, 2, 4])
def test_the_attention_block_is_the_toolbox_s(squeeze_factor):
    _same(rcan_layers.RCAB, rcan_arch.RCAB, 4, squeeze_factor)


def _same(own, published, *arguments):
    """Weights by name as initialised from one seed, and outputs and gradients to the bit."""
    networks, found = [], []
    for kind in (own, published):
        torch.manual_seed(3)
        networks.append(kind(*arguments))
        x = torch.rand(2, 4, 7, 5, requires_grad=True)
        networks[-1](x).square().sum().backward()
        found.append([x.grad, *(parameter.grad for parameter in networks[-1].parameters())])
    states = [network.state_dict() for network in networks]
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize('scale', [0, -2, 5, 6])
def test_a_scale_that_no_shuffle_makes_is_refused(scale):
    with pytest.raises(ValueError, match=f'expected 3 or a power of two, got {scale}'):
        rcan_layers.Upsample(scale, 4)


def test_the_networks_are_registered_once():
    from basicsr.utils.registry import ARCH_REGISTRY

    from pdan_plugin import archs

    archs.register()
    assert ARCH_REGISTRY.get('PDAN') is PDAN
    assert ARCH_REGISTRY.get('DRN') is DRN
