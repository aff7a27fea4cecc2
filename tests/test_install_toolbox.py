"""Installing the toolbox: a build that pip alone cannot make on Python 3.13, and what is printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from pdan_plugin import install_toolbox

# What BasicSR's setup.py does to find its version.
SETUP = """
from setuptools import setup

def version():
    with open('version.py') as file:
        exec(compile(file.read(), 'version.py', 'exec'))
    return locals()['__version__']

import torch
setup(name='read-by-exec', version=version(), py_modules=['read_by_exec'])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of a package that is built as the toolbox is; pip installs into a folder and asks no registry."""
    source = tmp_path / 'source'
    source.mkdir()
    (source / 'setup.py').write_text(SETUP)
    (source / 'version.py').write_text("__version__ = '1.4.2'\n")
    (source / 'read_by_exec.py').write_text('')
    installed = tmp_path / 'installed'
    installed.mkdir()
    monkeypatch.setattr(install_toolbox, 'BUILD_REQUIREMENTS', {'torch': 'torch', 'setuptools': 'setuptools'})
    monkeypatch.setenv('PIP_TARGET', str(installed))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.syspath_prepend(installed)
    return source


def test_a_version_read_by_exec_is_built_on_every_python(package: Path) -> None:
    assert install_toolbox.install(str(package), 'read-by-exec') == 0
    assert (package.parent / 'installed' / 'read_by_exec-1.4.2.dist-info').is_dir()


@pytest.mark.skipif(sys.version_info < (3, 13), reason='an older Python builds it without help')
def test_pip_alone_does_not_build_it(package: Path) -> None:
    command = [sys.executable, '-m', 'pip', 'install', '--no-build-isolation', str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "KeyError: '__version__'" in done.stdout + done.stderr


def test_a_failed_build_names_the_next_command(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (package / 'version.py').unlink()
    assert install_toolbox.install(str(package), 'read-by-exec') == 1
    printed = capfd.readouterr()
    assert 'version.py' in printed.out + printed.err
    assert printed.err.rstrip().endswith('`python -m pdan_plugin.install_toolbox`')


def test_a_requirement_that_fails_is_named_and_not_this_command_again(
    package: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The toolbox is built by then, so this command would do nothing."""
    setup = (
        (package / 'setup.py').read_text().replace('py_modules', "install_requires=['no-such-package>=3'], py_modules")
    )
    (package / 'setup.py').write_text(setup)
    assert install_toolbox.install(str(package), 'read-by-exec') == 1
    assert capfd.readouterr().err.rstrip().endswith("`python -m pip install 'no-such-package>=3'`")


def test_an_installed_toolbox_is_left_alone() -> None:
    command = [sys.executable, '-m', 'pdan_plugin.install_toolbox']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('The toolbox is installed already: ')


def test_the_standard_library_is_enough_and_pip_must_be_there(tmp_path: Path) -> None:
    """In a Python without site-packages: nothing but the standard library can be imported."""
    command = [sys.executable, '-S', '-m', 'pdan_plugin.install_toolbox']
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={'PYTHONPATH': str(Path(__file__).parents[1])}
    )
    assert done.returncode == 2
    assert 'has no pip: `python -m ensurepip`' in done.stderr
