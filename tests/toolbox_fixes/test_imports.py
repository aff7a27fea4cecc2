"""Importing the toolbox on a current stack, and finding the right one."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import scipy.ndimage

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes import other_basicsr_commands, require_real_toolbox
from pdan_plugin.toolbox_fixes.imports import LooseVersion

# As on Python 3.12 without setuptools, and beside a folder of the toolbox's name.
MENDED = """
import json, os, sys, warnings
os.mkdir('basicsr')
for name in ('distutils', 'distutils.version'):
    sys.modules[name] = None
import pdan_plugin, scipy, torch
from basicsr.archs.arch_util import LooseVersion
from basicsr.data.degradations import rgb_to_grayscale
from basicsr.metrics.niqe import convolve
warnings.simplefilter('error')
from scipy.ndimage.filters import convolve as by_its_old_name
print(json.dumps({
    'grey': list(rgb_to_grayscale(torch.rand(1, 3, 4, 4)).shape),
    'convolve': convolve is by_its_old_name is scipy.ndimage.convolve,
    'distutils mended': pdan_plugin.toolbox_fixes.applied()['distutils_version'],
    'versions compare': LooseVersion('0.29.0+cpu') >= LooseVersion('0.9.0'),
    'toolbox': sys.modules['basicsr'].__file__,
}))
"""


@pytest.fixture(scope='module')
def mended_import(tmp_path_factory):
    """What one fresh interpreter finds: each takes seconds to import torch and the toolbox."""
    done = subprocess.run(
        [sys.executable, '-c', MENDED], cwd=tmp_path_factory.mktemp('mended'), capture_output=True, text=True,
        timeout=600, env=os.environ | {'PYTHONPATH': _repository()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_without_the_shims_the_stock_import_fails_and_scipys_old_names_warn(monkeypatch):
    """Imported once more in this process; `test_spawned_workers` shows it of a fresh one."""
    for name in ('torchvision.transforms.functional_tensor', 'basicsr.data.degradations', 'scipy.ndimage.filters'):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(scipy.ndimage, 'filters', None)  # the import below sets it
    with pytest.raises(ModuleNotFoundError, match=r'torchvision\.transforms\.functional_tensor'):
        importlib.import_module('basicsr.data.degradations')
    published = importlib.import_module('scipy.ndimage.filters')
    with pytest.warns(DeprecationWarning, match='deprecated'):
        published.convolve  # noqa: B018 (taking the name is what warns)


def test_the_mended_import_has_its_functions_and_does_not_warn(mended_import):
    assert mended_import['grey'] == [1, 1, 4, 4]
    assert mended_import['convolve']


def test_without_distutils_versions_still_compare(mended_import):
    assert mended_import['distutils mended']
    assert mended_import['versions compare']


def test_a_folder_without_init_gives_way_to_the_installed_toolbox(mended_import):
    """Python itself sees to it; the check for shadows must not refuse it."""
    assert os.path.dirname(os.path.realpath(mended_import['toolbox'])) == str(require_real_toolbox())


def test_loose_versions_order_as_versions():
    ordered = ['0.8.2', '0.9', '0.9.0', '0.10.0a0', '0.10.0', '0.10.0+cpu', '1.0']
    versions = [LooseVersion(text) for text in ordered]
    assert versions[0] < versions[1] <= versions[2] < versions[4] < versions[6]
    assert versions[3] != versions[4]
    assert LooseVersion('1.2.3') == LooseVersion('1.2.3')
    assert LooseVersion('2.0') > LooseVersion('1.13.1')


def _package(folder, *files):
    for name in ('basicsr/__init__.py', *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('')
    return folder


def test_a_vendored_toolbox_is_named_with_the_installed_one(python, tmp_path):
    vendored = _package(tmp_path / 'NAFNet')
    done = python('import pdan_plugin', environment={'PYTHONPATH': os.pathsep.join([str(vendored), _repository()])})
    assert done.returncode == 1
    assert 'RequestError' in done.stderr
    assert str(vendored / 'basicsr') in done.stderr
    assert f'the installed toolbox in {require_real_toolbox()}' in done.stderr


def test_another_project_installed_under_the_name_is_refused(tmp_path, monkeypatch):
    site = _package(tmp_path / 'site')
    metadata = site / 'basicsr-1.2.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: basicsr\nVersion: 1.2.0\n')
    (metadata / 'RECORD').write_text('basicsr/__init__.py,,\n')
    _look_first_in(monkeypatch, site)
    with pytest.raises(RequestError, match=r'basicsr 1\.2\.0 in .* is not the toolbox .*archs'):
        require_real_toolbox()


def test_other_commands_of_the_name_are_told(tmp_path, monkeypatch):
    metadata = tmp_path / 'basicsr_fork-3.0.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Metadata-Version: 2.1\nName: basicsr-fork\nVersion: 3.0\n')
    (metadata / 'entry_points.txt').write_text('[console_scripts]\nbasicsr = basicsr_fork:main\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert other_basicsr_commands() == ['basicsr-fork']


def _look_first_in(monkeypatch, site):
    monkeypatch.syspath_prepend(str(site))
    for name in [each for each in sys.modules if each.partition('.')[0] == 'basicsr']:
        monkeypatch.delitem(sys.modules, name)


def _repository():
    import pdan_plugin

    return os.path.dirname(os.path.dirname(pdan_plugin.__file__))
