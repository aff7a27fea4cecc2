"""What a container, a service or a batch system grants counts, whichever version of control groups says so."""

import os
from pathlib import Path

import pytest
import torch
from warm_processes import run_python

from pdan_plugin.machine import control_groups, cores, memory

CPU = torch.device('cpu')


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """make(own groups, {file: content}): stands for /proc/self/cgroup and /sys/fs/cgroup of a container."""

    def make(own, files):
        (tmp_path / 'own').write_text(own)
        for name, content in files.items():
            (tmp_path / 'groups' / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / 'groups' / name).write_text(content)
        monkeypatch.setattr(control_groups, '_ROOT', tmp_path / 'groups')
        monkeypatch.setattr(control_groups, '_OWN_GROUPS', tmp_path / 'own')

    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(16)), raising=False)
    return make


def of_version_1(folder, quota):
    return {f'{folder}/cpu.cfs_quota_us': f'{quota}\n', f'{folder}/cpu.cfs_period_us': '100000\n'}


@pytest.mark.parametrize(
    ('own', 'files', 'expected'),
    [
        ('0::/\n', {'cpu.max': '150000 100000\n'}, 2),  # a container: one and a half cores
        ('0::/\n', {'cpu.max': 'max 100000\n'}, 16),
        ('0::/a/b\n', {'cpu.max': 'max 100000\n', 'a/cpu.max': '300000 100000', 'a/b/cpu.max': '800000 100000'}, 3),
        ('0::/\n', {'cpu.max': '1000 100000\n'}, 1),
        ('4:cpu,cpuacct:/job\n0::/\n', of_version_1('cpu,cpuacct/job', '500000'), 5),
        ('4:cpu:/\n', of_version_1('cpu', '-1'), 16),
        # version 1 without a namespace of its own: the path is the host's
        ('4:cpu:/docker/1f\n', of_version_1('cpu', '400000'), 4),
        ('', {}, 16),
        ('a line of a sandbox\n\n0::/\n', {'cpu.max': '200000 100000'}, 2),
    ],
)  # fmt: skip
def test_cores(tree, own, files, expected):
    tree(own, files)
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(
    ('own', 'folder', 'names'),
    [
        ('0::/box\n', 'box', ('memory.max', 'memory.current', 'inactive_file')),
        ('0::/box\n', 'box', ('memory.high', 'memory.current', 'inactive_file')),
        ('9:memory:/box\n', 'memory/box', ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')),
    ],
)
def test_memory(tree, own, folder, names):
    limit, usage, kept = names
    files = {limit: '1000000', usage: '600000', 'memory.stat': f'anon 5\n{kept} 70\n'}
    tree(own, {f'{folder}/{name}': content for name, content in files.items()})
    assert memory.free_memory(CPU) == 400_070
    tree(own, {f'{folder}/{limit}': 'max' if limit in ('memory.max', 'memory.high') else str(2**63 - 4096)})
    assert memory.free_memory(CPU) > 2**20


def test_a_group_that_the_system_really_has():
    place = next((folder for folder in map(Path, ('/sys/fs/cgroup/cpu', '/sys/fs/cgroup')) if folder.is_dir()), None)
    group = (place or Path()) / f'pdan_plugin_test_{os.getpid()}'
    try:
        group.mkdir()
    except OSError:
        pytest.skip('this process may not make control groups')
    try:
        quota = [('cpu.max', '100000 100000')] if (group / 'cpu.max').exists() else [('cpu.cfs_quota_us', '100000')]
        if not (group / quota[0][0]).exists():
            pytest.skip('the system controls no cores by groups here')
        (group / quota[0][0]).write_text(quota[0][1])
        script = (
            'import os, sys\n'
            'open(sys.argv[1], "w").write(str(os.getpid()))\n'
            'from pdan_plugin.machine.cores import usable_cores\n'
            'print(usable_cores())\n'
        )
        counted = run_python('-c', script, group / 'cgroup.procs', cwd=Path.cwd())
        assert counted.stdout == '1\n', counted.stderr
    finally:
        group.rmdir()
