"""The command prepares the toolbox when it needs it; its spawned workers, as any other process, at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pdan_plugin.commands import main as cli
from pdan_plugin.machine import control_groups
from pdan_plugin.processes import command_start

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


@pytest.mark.parametrize(
    ('chosen', 'processor', 'expected'),
    [
        ({}, 'x86_64', {'GOMP_SPINCOUNT': '2000'}),
        ({}, 'aarch64', {}),
        ({'OMP_WAIT_POLICY': 'active'}, 'x86_64', {'OMP_WAIT_POLICY': 'active'}),
        ({'GOMP_SPINCOUNT': '7'}, 'x86_64', {'GOMP_SPINCOUNT': '7'}),
    ],
)
def test_the_commands_threads_wait_shortly_unless_the_user_chose(monkeypatch, capsys, chosen, processor, expected):
    names = ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT')
    for name in names:
        monkeypatch.setenv(name, chosen.get(name, ''))
        if name not in chosen:
            monkeypatch.delenv(name)
    monkeypatch.setattr('platform.machine', lambda: processor)
    assert cli.main(['options']) == 0
    assert {name: os.environ[name] for name in names if name in os.environ} == expected


@pytest.mark.parametrize(
    ('quota', 'chosen', 'ranks', 'expected'),
    [('250000', None, None, '3'), ('max', None, None, None), ('250000', '8', None, '8'), ('400000', None, '2', '2')],
)
def test_torch_gets_the_threads_that_a_container_grants(tmp_path, monkeypatch, capsys, quota, chosen, ranks, expected):
    """Ranks that the command starts divide the cores, so they do not inherit its threads; but they do the user's."""
    (tmp_path / 'cpu.max').write_text(f'{quota} 100000')
    (tmp_path / 'own').write_text('0::/')
    monkeypatch.setattr(control_groups, '_ROOT', tmp_path)
    monkeypatch.setattr(control_groups, '_OWN_GROUPS', tmp_path / 'own')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(command_start, '_threads_of_quota', None)
    for name, value in (('OMP_NUM_THREADS', chosen), ('LOCAL_WORLD_SIZE', ranks)):
        monkeypatch.setenv(name, value or '')
        if value is None:
            monkeypatch.delenv(name)
    assert cli.main(['options']) == 0
    assert os.environ.get('OMP_NUM_THREADS') == expected
    assert command_start.environment_for_ranks().get('OMP_NUM_THREADS') == chosen


@pytest.mark.parametrize(
    ('name', 'prepared'),
    [('basicsr', False), pytest.param('train.py', True, marks=pytest.mark.long)],  # workers of it: test_spawned_workers
)
def test_only_the_command_puts_preparing_off(tmp_path, name, prepared):
    (tmp_path / name).write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / name], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f'__main__ {prepared}', '__mp_main__ True', 'a worker'], done.stderr
