"""Help and mistakes in the arguments are answered without what is slow to import."""

import subprocess
import sys

import pytest

SLOW = {'torch', 'basicsr', 'numpy', 'cv2', 'PIL', 'pydantic', 'yaml', 'scipy', 'matplotlib'}
VERBS = ('train', 'test', 'check', 'restore', 'prepare-pairs', 'options', 'app', 'plugins')
MISTAKES = [
    [],
    ['trian'],
    ['train'],
    ['check', '-opt'],
    ['test', '-opt', 'small.yml', '--launcher', 'mpi'],
    ['restore', 'in.png'],
    ['restore', 'in.png', '-o', 'out', '--tile', '0'],
    ['plugins', '--all'],
]


@pytest.mark.parametrize(
    ('words', 'status'),
    [
        (['--help'], 0),
        (['--version'], 0),
        *(([verb, '--help'], 0) for verb in VERBS),
        *((each, 2) for each in MISTAKES),
    ],
)
def test_nothing_slow_is_imported_to_answer(words, status):
    command = [sys.executable, '-X', 'importtime', '-m', 'pdan_plugin', *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    imported = {
        line.rpartition('|')[2].strip().split('.')[0] for line in done.stderr.splitlines() if line.startswith('import ')
    }
    assert done.returncode == status, done.stderr
    assert 'pdan_plugin' in imported
    assert not imported & SLOW
