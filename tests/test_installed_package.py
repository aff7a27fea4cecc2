"""The wheel and the sdist, installed where there is no checkout: every subcommand works in an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from pdan_plugin.commands.main import COMMANDS
from pdan_plugin.option_schema.option_file import read_option_file
from pdan_plugin.option_schema.shipped_options import shipped_options

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
RUN_BY_QUICKSTART = {'render-clips', 'prepare-reds', 'train', 'test', 'picture-sheet'}
CHAIN = 'quickstart_short'
WEIGHTS = f'{CHAIN}/experiments/quickstart_phase3/models/net_g_latest.pth'
TRUTH = f'{CHAIN}/datasets/quickstart/val_sharp.lmdb'
# command line -> what it leaves, in the order in which they are run
RUNS = {
    f'check -opt {CHAIN}.yml': None,
    f'restore photo.png -o restored -w {WEIGHTS}': 'restored/photo.png',
    'restore photo.png -o small.png': 'small.png',
    'plugins': None,
    f'report {CHAIN}/results/quickstart -o page.html': 'page.html',
    f'report --figure {CHAIN}/results/quickstart -o figure.png': 'figure.png',
    f'ensemble {CHAIN}/results/quickstart again -o merged --gt {TRUTH}': 'merged/scores.csv',
    f'export {WEIGHTS} -o small.safetensors --fp16': 'small.safetensors',
    'complexity --size 32x32': None,
    'app --help': None,
    'prepare-pairs clips/000 pairs --workers 1': 'pairs/train/gt',
    'synthesize clips stores --factor 4 --window 5 --stride 2 --workers 1': 'stores/train_sharp.lmdb/data.mdb',
    'calibrate-response 0.png 1.png 2.png 3.png 4.png -o crf.npy --exposures 1/60 1/30 1/15 1/8 1/4': 'crf.npy',
}


def run(*words, cwd, status=0):
    """A program in a process without the checkout on its path; its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == status, f'{words}\n{done.stdout}\n{done.stderr}'
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    """Built from a copy, so that the checkout gets no build folders."""
    folder = tmp_path_factory.mktemp('source')
    for name in ('pdan_plugin', 'options'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, folder)
    (folder / 'dist').mkdir()
    run(sys.executable, '-c', 'from setuptools import build_meta; build_meta.build_sdist("dist")', cwd=folder)
    return next((folder / 'dist').iterdir())


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, as pip does it."""
    folder = tmp_path_factory.mktemp('wheel')
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter='data')
    source = next(folder.iterdir())
    run(sys.executable, '-m', 'pip', 'wheel', '--no-build-isolation', '--no-deps', '-w', folder, source, cwd=folder)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def programs(wheel, tmp_path_factory):
    """The folder of the programs of an environment that has the wheel. It reads torch and the rest from this one."""
    folder = tmp_path_factory.mktemp('environment')
    run(sys.executable, '-m', 'venv', '--without-pip', folder, cwd=folder)
    python = folder / 'bin/python'
    place = Path(run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))', cwd=folder).strip())
    # only a path: what an editable install has put beside it is not started
    (place / 'of_the_tests.pth').write_text(f'{sysconfig.get_path("purelib")}\n')
    run(sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', '--no-index', wheel, cwd=folder)
    found = run(python, '-c', 'import pdan_plugin.errors; print(pdan_plugin.__file__)', cwd=folder)
    assert found.splitlines()[-1] == str(place / 'pdan_plugin/__init__.py')
    return folder / 'bin'


@pytest.fixture(scope='module')
def folder(programs, tmp_path_factory):
    """An empty folder in which the short quickstart was run, with pictures beside it."""
    folder = tmp_path_factory.mktemp('empty')
    output = run(programs / 'basicsr', 'quickstart', '--short', cwd=folder)
    assert {line.split()[2] for line in output.splitlines() if line.startswith('$ basicsr ')} == RUN_BY_QUICKSTART
    shutil.copytree(folder / CHAIN / 'results/quickstart', folder / 'again')
    options = run(programs / 'basicsr', 'options', 'quickstart/phase3', cwd=folder)
    (folder / f'{CHAIN}.yml').write_text(options.replace('datasets/', f'{CHAIN}/datasets/').replace(
        'experiments/', f'{CHAIN}/experiments/'))  # fmt: skip
    pictures = np.random.default_rng(0).integers(0, 255, (6, 64, 96, 3), np.uint8)
    (folder / 'clips/000').mkdir(parents=True)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f'clips/000/{number:08d}.png'), cv2.GaussianBlur(picture, (0, 0), 5))
    cv2.imwrite(str(folder / 'photo.png'), pictures[0, :24, :32])
    light = np.broadcast_to(np.linspace(0, 1, 2048)[None, :, None], (8, 2048, 3))
    for number in range(5):  # five exposures of one scene, each twice as long as the one before
        levels = np.round((light * 2.0**number / 4).clip(0, 1) ** (1 / 2.2) * 255)
        cv2.imwrite(str(folder / f'{number}.png'), levels.astype(np.uint8))
    return folder


def test_both_have_the_option_files(sdist, wheel):
    names = {f'options/{name}.yml' for name in shipped_options()}
    with tarfile.open(sdist) as archive:
        held = {name.partition('/')[2] for name in archive.getnames()}
    assert names <= held
    with zipfile.ZipFile(wheel) as archive:
        assert {f'pdan_plugin/{name}' for name in names} <= set(archive.namelist())
        first = archive.read('pdan_plugin/options/quickstart/phase1.yml').decode('utf-8').splitlines()[0]
    assert first == '# yaml-language-server: $schema=../../option_schema/options.schema.json'


def test_every_subcommand_is_run_here():
    assert {words.split()[0] for words in RUNS} | RUN_BY_QUICKSTART | {'quickstart', 'options'} == set(COMMANDS)


@pytest.mark.parametrize('words', RUNS)
def test_subcommands(words, programs, folder):
    output = run(programs / 'basicsr', *words.split(), cwd=folder)
    assert 'scripts/' not in output
    result = RUNS[words]
    assert result is None or (folder / result).exists()


def test_option_files(programs, tmp_path):
    """Listed, copied, checked by name and as a copy, and extended."""
    listed = run(programs / 'basicsr', 'options', cwd=tmp_path)
    for name, file in shipped_options().items():
        assert f'\n{name} ' in f'\n{listed}'
        copy = tmp_path / 'copy.yml'
        copy.write_text(run(programs / 'basicsr', 'options', name, cwd=tmp_path))
        assert read_option_file(copy) == read_option_file(file)
    (tmp_path / 'my.yml').write_text('extends: pdan_phase1\nname: mine\n')
    for given in ('pdan_phase1', 'my.yml'):
        refused = run(programs / 'basicsr', 'check', '-opt', given, cwd=tmp_path, status=2)
        assert '`basicsr prepare-reds SOURCE datasets/REDS` creates it' in refused
