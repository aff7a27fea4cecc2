"""The command prepares the toolbox when it needs it; its spawned workers, as any other process, at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
import multiprocessing, sys
import pdan_plugin

print(__name__, 'basicsr' in sys.modules, flush=True)
if __name__ == '__main__':
    worker = multiprocessing.get_context('spawn').Process(target=print, args=('a worker',))
    worker.start()
    worker.join()
"""


@pytest.mark.parametrize(('name', 'prepared'), [('basicsr', False), ('train.py', True)])
def test_only_the_command_puts_preparing_off(tmp_path, name, prepared):
    (tmp_path / name).write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / name], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f'__main__ {prepared}', '__mp_main__ True', 'a worker'], done.stderr
