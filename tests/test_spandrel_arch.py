"""PDAN in programs that load weights with spandrel: recognised, whole without the toolbox, and without seams."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from pdan_plugin.archs import DRN, PDAN
from pdan_plugin.weights.packaged_weights import packaged_weights
from pdan_plugin.weights.trained_network import load_trained_network

spandrel = pytest.importorskip('spandrel')
spandrel_arch = pytest.importorskip('pdan_plugin.spandrel_arch')

REPOSITORY = Path(__file__).parents[1]
SMALL = {'num_feat': 8, 'num_group': 2, 'num_block': 1, 'squeeze_factor': 2, 'fuse_levels': 1}


@pytest.fixture
def loader():
    registry = spandrel.MAIN_REGISTRY.copy()
    spandrel_arch.install(registry)
    spandrel_arch.install(registry)  # a second call does nothing
    return spandrel.ModelLoader(registry=registry)


@pytest.fixture
def pdan_small(loader):
    return loader.load_from_file(packaged_weights()['pdan_small'])


def picture(height, width):
    """A part of a photograph with a black half, whose means differ much from tile to tile."""
    part = data.astronaut()[:height, 80 : 80 + width].astype(np.float32) / 255
    part[:, : width // 2] *= 0.1
    return torch.from_numpy(part).permute(2, 0, 1)[None]


def test_spandrel_loads_the_packaged_weights(pdan_small):
    assert (pdan_small.architecture.name, pdan_small.scale, pdan_small.purpose) == ('PDAN', 4, 'SR')
    assert (pdan_small.input_channels, pdan_small.output_channels) == (3, 3)
    assert not pdan_small.model.training
    x = picture(33, 47)
    with torch.no_grad():
        expected = load_trained_network('pdan_small')(x).clamp(0, 1)
    assert (pdan_small(x) - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    'options',
    [
        SMALL,
        SMALL | {'upscale': 3, 'attention': 'ca', 'fuse_levels': 0},
        SMALL | {'upscale': 2, 'num_in_ch': 1, 'num_out_ch': 1, 'rgb_mean': (0.43,)},
    ],
)
def test_its_size_is_read_from_the_weights(loader, tmp_path, options):
    network = PDAN(**options)
    torch.save({'params': network.state_dict()}, tmp_path / 'net_g_8.pth')  # as the trainer saves it, with the branch
    found = loader.load_from_file(tmp_path / 'net_g_8.pth')
    x = torch.rand(1, options.get('num_in_ch', 3), 11, 9)
    assert found.scale == options.get('upscale', 4)
    with torch.no_grad():
        assert (found(x) - network(x).clamp(0, 1)).abs().max() < 1e-5


def test_no_other_architecture_takes_it_for_its_own_nor_the_other_way_round(loader):
    state = PDAN(**SMALL).state_dict()
    taking = [each.architecture.id for each in loader.registry if each.detect(state)]
    assert taking == ['PDAN']
    assert not loader.registry['PDAN'].detect(DRN(num_block=1).state_dict())


def chainner(model, image, tile, overlap=16):
    """How chaiNNer cuts a picture for a model: not at all if its tiling is internal; else tiles beside each other."""
    if model.tiling == spandrel.ModelTiling.INTERNAL:
        return model(image)
    height, width = image.shape[-2:]
    result = torch.zeros(1, 3, height * model.scale, width * model.scale)
    rows, columns = (math.ceil(size / math.ceil(size / tile)) for size in (height, width))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            above, before = min(overlap, top), min(overlap, left)
            part = model(image[..., top - above : top + rows + overlap, left - before : left + columns + overlap])
            part = part[..., above * model.scale :, before * model.scale :]
            place = result[..., top * model.scale : (top + rows) * model.scale,
                           left * model.scale : (left + columns) * model.scale]  # fmt: skip
            place.copy_(part[..., : place.shape[-2], : place.shape[-1]])
    return result


def test_chainner_s_tiling_gives_the_whole_picture(pdan_small, monkeypatch):
    """Also where the memory holds only a part of the picture."""
    x = picture(112, 144)
    with torch.no_grad():
        whole = pdan_small.model(x).clamp(0, 1)
    monkeypatch.setattr('pdan_plugin.restoration.memory_budget.free_memory', lambda device: 30 * 2**20)
    calls = []
    pdan_small.model.conv_first.register_forward_hook(lambda layer, inputs, output: calls.append(output.shape))
    tiled = chainner(pdan_small, x, 48)
    assert not any(shape[-2] >= 112 and shape[-1] >= 144 for shape in calls)  # no call had the whole picture
    assert (tiled - whole).abs().max() <= 1 / 255


def test_tiles_that_a_program_cuts_would_show_seams(loader, tmp_path, monkeypatch):
    """The reason for internal tiling, with gates that depend much on the means."""
    network = PDAN(**SMALL, deblur_branch=False)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.mul_(8 if 'channel_gate' in name else 1)
    torch.save(network.state_dict(), tmp_path / 'strong.pth')
    model, x = loader.load_from_file(tmp_path / 'strong.pth'), picture(72, 120)
    whole = chainner(model, x, 48)
    monkeypatch.setattr('pdan_plugin.restoration.memory_budget.free_memory', lambda device: 1.9 * 2**20)
    model = loader.load_from_file(tmp_path / 'strong.pth')
    calls = []
    model.model.conv_first.register_forward_hook(lambda layer, inputs, output: calls.append(output.shape))
    inside = (chainner(model, x, 48) - whole).abs().max()
    assert not any(shape[-2] >= 72 and shape[-1] >= 120 for shape in calls)  # no call had the whole picture
    model.tiling = spandrel.ModelTiling.SUPPORTED
    monkeypatch.undo()
    cut = (chainner(model, x, 48) - whole).abs().max()
    assert inside <= 1 / 255
    assert cut > 4 * inside


def test_half_precision_is_within_a_grey_level(pdan_small):
    x = picture(24, 40)
    expected = pdan_small(x)
    assert pdan_small.supports_half
    result = pdan_small.half()(x.half())
    assert result.dtype == torch.float16
    assert (result.float() - expected).abs().max() <= 1 / 255
    assert (pdan_small.float()(x) - expected).abs().max() <= 1 / 255


def test_the_network_is_the_program_s_own(pdan_small):
    """A program may change or train it: no copy is restored with, and nothing of it is frozen."""
    x = picture(12, 10)
    pdan_small(x)
    assert all(parameter.requires_grad for parameter in pdan_small.model.parameters())
    with torch.no_grad():
        pdan_small.model.conv_last.weight.zero_()
        pdan_small.model.conv_last.bias.zero_()
    assert torch.allclose(pdan_small(x), pdan_small.model.mean.expand(1, 3, 48, 40), atol=1e-6)


WITHOUT_TOOLBOX = """
import importlib.abc, sys

class KeptAway(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('av', 'basicsr', 'cv2', 'lmdb', 'matplotlib', 'pydantic', 'tifffile', 'yaml'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, KeptAway())
from pdan_plugin import spandrel_arch
import spandrel, torch
spandrel_arch.install()
model = spandrel.ModelLoader().load_from_file(sys.argv[1])
assert model(torch.rand(1, 3, 12, 10)).shape == (1, 3, 48, 40)
"""


def test_it_needs_torch_and_spandrel_alone(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', WITHOUT_TOOLBOX, packaged_weights()['pdan_small']], cwd=tmp_path, capture_output=True,
        text=True, timeout=600, env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
