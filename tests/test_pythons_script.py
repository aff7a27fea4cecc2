"""`test.sh --pythons`: the real scripts and a real pytest, in a small tree with a small suite of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HERE = f'{sys.version_info.major}.{sys.version_info.minor}'
OTHER = '3.1'  # no machine has it

DESCRIPTION = f"""
classifiers = [
    'Programming Language :: Python :: {HERE}',
    'Programming Language :: Python :: {OTHER}',
]
[tool.pytest.ini_options]
testpaths = ['tests']
markers = ['long: ']
"""
SUITE = """
import pytest

def test_that_passes(): pass
def test_that_passes_too(): pass
def test_that_fails(): assert {passes}
@pytest.mark.skip
def test_that_is_skipped(): pass
@pytest.mark.long
def test_that_is_long(): assert False, 'only --all runs this'
"""


@pytest.fixture
def tree(tmp_path):
    """The scripts, a package for two Pythons, of which this machine has one, and that one's environments."""
    shutil.copytree(ROOT / 'scripts', tmp_path / 'scripts', ignore=shutil.ignore_patterns('*.py', '__pycache__'))
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests/oldest.txt').write_text('numpy==1.24\n')
    (tmp_path / 'pyproject.toml').write_text(DESCRIPTION)
    (tmp_path / 'tests/test_small.py').write_text(SUITE.format(passes=True))
    for name in ('newest', 'oldest'):
        environment = tmp_path / f'.venvs/{HERE}-{name}'
        (environment / 'bin').mkdir(parents=True)
        (environment / 'bin/python').write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (environment / 'bin/python').chmod(0o755)
    make_stamps(tmp_path)
    return tmp_path


def make_stamps(tree):
    """Marks the environments as installed, as `install_package` would, were pip to succeed at once."""
    pip = tree / 'pip_that_succeeds'
    pip.write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit 0\nexec {sys.executable} "$@"\n')
    for name, state in [('newest', '"$(date +%G-%V)"'), ('oldest', '"$(cksum < tests/oldest.txt)"')]:
        python = tree / f'.venvs/{HERE}-{name}/bin/python'
        kept = python.read_text()
        python.write_text(pip.read_text())
        script = f'source scripts/pythons.sh; install_package "$(pwd)/.venvs/{HERE}-{name}" tests {state}'
        subprocess.run(['bash', '-c', script], check=True, cwd=tree, capture_output=True)
        python.write_text(kept)


def run(tree, *arguments):
    return subprocess.run(
        ['bash', 'scripts/test.sh', *arguments],
        cwd=tree,
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHON': sys.executable, 'PYTEST_XDIST_AUTO_NUM_WORKERS': '1'},
    )


def table(ended):
    rows = ended.stdout[ended.stdout.rindex('== Python') :].splitlines()[1:]
    return {row.split()[0]: row.strip() for row in rows}


def test_every_python_and_the_oldest_packages_are_in_the_table(tree):
    ended = run(tree, '--pythons')
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert table(ended)[HERE].count('3 passed, 0 failed, 1 skipped') == 2
    assert f'no Python {OTHER} on this machine' in table(ended)[OTHER]


def test_a_failure_is_counted_and_fails(tree):
    (tree / 'tests/test_small.py').write_text(SUITE.format(passes=False))
    ended = run(tree, f'--pythons={HERE}-oldest')
    assert ended.returncode == 1
    assert '2 passed, 1 failed, 1 skipped' in table(ended)[HERE]
    assert list(table(ended)) == [HERE]


def test_arguments_go_to_pytest(tree):
    ended = run(tree, f'--pythons={HERE}-newest', '-k', 'too')
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '1 passed, 0 failed, 0 skipped' in table(ended)[HERE]


def test_an_installation_that_fails_is_named_and_fails(tree):
    """An edited description asks for a new installation; the pip here fails."""
    with (tree / 'pyproject.toml').open('a') as file:
        file.write('# edited\n')
    python = tree / f'.venvs/{HERE}-newest/bin/python'
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] && exit 1\nexec {sys.executable} "$@"\n')
    ended = run(tree, f'--pythons={HERE}-newest')
    assert ended.returncode == 1
    assert 'the installation failed' in table(ended)[HERE]


def test_where_no_test_could_be_run_it_fails(tree):
    ended = run(tree, f'--pythons={OTHER}-newest')
    assert ended.returncode == 1
    assert 'no test was run' in ended.stderr


def test_a_name_that_is_none_is_refused(tree):
    ended = run(tree, f'--pythons={OTHER}-oldest')
    assert ended.returncode == 2
    assert f'{OTHER}-oldest: not one of {HERE}-newest {OTHER}-newest {HERE}-oldest' in ended.stderr
