"""Importing the toolbox on a current stack, and finding the right one."""

import os
import sys

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes import other_basicsr_commands, require_real_toolbox
from pdan_plugin.toolbox_fixes.imports import LooseVersion


def test_the_stock_import_fails_and_the_mended_one_has_its_functions(python):
    stock = python('import basicsr')
    assert stock.returncode == 1
    assert 'torchvision.transforms.functional_tensor' in stock.stderr
    mended = python(
        'import pdan_plugin, torch\n'
        'from basicsr.data.degradations import rgb_to_grayscale\n'
        'from basicsr.metrics.niqe import convolve\n'
        'assert rgb_to_grayscale(torch.rand(1, 3, 4, 4)).shape == (1, 1, 4, 4)\n'
        'assert convolve is __import__("scipy.ndimage").ndimage.convolve\n'
    )
    assert mended.returncode == 0, mended.stderr


def test_scipys_old_names_do_not_warn(python):
    names = 'import pdan_plugin, warnings\nwarnings.simplefilter("error")\nfrom scipy.ndimage.filters import convolve'
    done = python(names)
    assert done.returncode == 0, done.stderr
    stock = python(names.replace('import pdan_plugin, ', 'import '))
    assert 'DeprecationWarning' in stock.stderr


def test_without_distutils_versions_still_compare(python):
    """As on Python 3.12 without setuptools."""
    done = python(
        'import sys\n'
        'for name in ("distutils", "distutils.version"): sys.modules[name] = None\n'
        'import pdan_plugin\n'
        'assert pdan_plugin.toolbox_fixes.applied()["distutils_version"]\n'
        'from basicsr.archs.arch_util import LooseVersion\n'
        'assert LooseVersion("0.29.0+cpu") >= LooseVersion("0.9.0")\n'
    )
    assert done.returncode == 0, done.stderr


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


def test_a_folder_without_init_is_a_shadow_only_where_it_comes_first(python, tmp_path):
    """A namespace folder gives way to the installed package; Python itself sees to it."""
    (tmp_path / 'basicsr').mkdir()
    done = python('import pdan_plugin')
    assert done.returncode == 0, done.stderr


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
