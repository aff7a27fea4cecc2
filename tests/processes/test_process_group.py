"""Processes that meet on a CPU, whoever starts them, and wait for the first of them."""

import os
import re
import subprocess
import sys
import time

import pytest
import torch.multiprocessing
from basicsr.utils import dist_util
from child_processes import PYTHON_PATH
from free_port import free_port

from pdan_plugin.errors import RequestError
from pdan_plugin.processes.process_group import use_own_gpu

MEETING = """
import atexit, os, sys
import gloo_threads, pdan_plugin, torch, torch.distributed as dist
from basicsr.utils import dist_util
from pdan_plugin.errors import RequestError
from pdan_plugin.processes.process_group import any_rank, from_rank_zero, wait_for_rank_zero
def tell():
    print(f'at the end {gloo_threads.left_at_the_end()} threads, in a group: {dist.is_initialized()}')
atexit.register(tell)
dist_util.init_dist(sys.argv[1], backend='nccl', timeout=60)
dist_util.init_dist(sys.argv[1])
rank = dist.get_rank()
assert dist.get_backend() == 'gloo' and dist.get_world_size() == 2
assert torch.multiprocessing.get_start_method(allow_none=True) in (None, 'fork')
assert gloo_threads.count() or gloo_threads.are_unnamed() or not os.path.exists('/proc/self/task')
assert any_rank(rank == 1) and not any_rank(False)
assert from_rank_zero(lambda: f'said by {rank}') == 'said by 0'
try:
    from_rank_zero(lambda: (_ for _ in ()).throw(RequestError('no')))
    raise SystemExit('nothing raised')
except RequestError as error:
    assert str(error) == 'no'
if rank == 0:
    import time
    time.sleep(1)
    open('rank_0_was_here', 'w').close()
wait_for_rank_zero()
assert os.path.exists('rank_0_was_here')
wait_for_rank_zero()
total = torch.ones(1)
dist.all_reduce(total)
print(f'rank {rank} local {os.environ["LOCAL_RANK"]} sum {total.item():.0f}', flush=True)
"""


@pytest.mark.long  # torchrun is what --nproc starts: the stopped runs of tests/commands/test_main.py
def test_torchrun_on_a_cpu(python):
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')
    done = python(MEETING, 'pytorch', launcher=launcher, environment={'PYTHONPATH': PYTHON_PATH})
    assert done.returncode == 0, done.stderr
    assert 'rank 0 local 0 sum 2' in done.stdout
    assert 'rank 1 local 1 sum 2' in done.stdout
    assert done.stdout.count('at the end 0 threads, in a group: False') == 2
    assert 'found none; gloo is used' in done.stderr


def test_a_rank_that_fails_within_a_collective_ends(python):
    """Its peer is nowhere near, so the collective will not end: the exit status is its own, and soon."""
    script = """
import sys, time
import pdan_plugin, torch, torch.distributed as dist
from basicsr.utils import dist_util
dist_util.init_dist('pytorch')
if dist.get_rank() == 0:
    pending = dist.all_reduce(torch.ones(1), async_op=True)
    print('left at', time.time(), flush=True)
    sys.exit(3)
time.sleep(3000)
"""
    done = python(script, launcher=('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'))
    assert re.search(r'rank\s*: 0 .*\n\s*exitcode\s*: 3 ', done.stderr), done.stderr
    left = re.search(r'left at ([\d.]+)', done.stdout)
    assert left is not None
    assert time.time() - float(left[1]) < 120


NCCL = """
import atexit
import gloo_threads, pdan_plugin, torch, torch.distributed as dist
from basicsr.utils import dist_util
from pdan_plugin.processes import process_group
def tell():
    print(f'at the end {gloo_threads.left_at_the_end()} threads, in a group: {dist.is_initialized()}')
atexit.register(tell)
joined = dist.init_process_group
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
torch.cuda.set_device = lambda number: print('device', number, flush=True)
dist.init_process_group = lambda backend, **words: joined(backend='gloo', **words)
dist_util.init_dist('pytorch')
dist.get_backend = lambda *group: 'nccl'
assert process_group.any_rank(dist.get_rank() == 1)
assert process_group._cpu_group[1] is not dist.group.WORLD
raise RuntimeError('the run fails')
"""


def test_a_failing_run_under_nccl_leaves_the_gloo_group_beside_it(python):
    """nccl is a mock, a gloo group under its name, and so are the two GPUs. The group beside it is real."""
    launcher = ('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2')
    done = python(NCCL, launcher=launcher, environment={'PYTHONPATH': PYTHON_PATH})
    assert 'RuntimeError: the run fails' in done.stderr
    assert done.stdout.count('at the end 0 threads, in a group: False') >= 1, done.stdout  # the other may be stopped
    assert 'SIGABRT' not in done.stderr
    assert 'device 0' in done.stdout
    assert 'device 1' in done.stdout


def test_each_rank_takes_its_own_gpu_before_it_uses_any(monkeypatch):
    """A mock of CUDA with two devices."""
    chosen = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    for name in ('LOCAL_RANK', 'SLURM_LOCALID'):
        monkeypatch.delenv(name, raising=False)
    assert use_own_gpu()
    assert chosen == []
    monkeypatch.setenv('SLURM_LOCALID', '3')
    assert use_own_gpu()
    monkeypatch.setenv('LOCAL_RANK', '0')
    assert use_own_gpu()
    assert chosen == [1, 0]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert not use_own_gpu()


def test_slurm_on_a_cpu(python, tmp_path):
    """Two tasks as srun starts them; the scheduler's own command is on the PATH."""
    scontrol = tmp_path / 'bin' / 'scontrol'
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname node[1-2]" ] && printf "127.0.0.1\\nnode2\\n"\n')
    scontrol.chmod(0o755)
    environment = {
        'PATH': f'{scontrol.parent}{os.pathsep}{os.environ["PATH"]}', 'PYTHONPATH': PYTHON_PATH,
        'MASTER_PORT': str(free_port()),
        'SLURM_NTASKS': '2', 'SLURM_NODELIST': 'node[1-2]', 'SLURM_LOCALID': '0',
    }  # fmt: skip
    (tmp_path / 'meeting.py').write_text(MEETING)
    other = subprocess.Popen(
        [sys.executable, 'meeting.py', 'slurm'], cwd=tmp_path,
        env=os.environ | environment | {'SLURM_PROCID': '1'},
    )  # fmt: skip
    done = python(MEETING, 'slurm', environment=environment | {'SLURM_PROCID': '0'})
    assert other.wait(timeout=600) == 0
    assert done.returncode == 0, done.stderr
    assert 'rank 0 local 0 sum 2' in done.stdout


def test_the_stock_launchers_divide_by_zero_on_a_cpu(stock, monkeypatch):
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(torch.multiprocessing, 'set_start_method', lambda method: None)
    with stock(), pytest.raises(ZeroDivisionError):
        dist_util.init_dist('pytorch')


@pytest.mark.parametrize(
    ('launcher', 'said'),
    [
        ('pytorch', r'no RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT; start the command with torchrun'),
        ('slurm', r'no SLURM_PROCID, SLURM_NTASKS; start the run with srun'),
        ('mpi', r"launcher 'mpi': expected 'pytorch' or 'slurm'"),
    ],
)
def test_a_launcher_without_its_environment_says_what_is_missing(monkeypatch, launcher, said):
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RequestError, match=said):
        dist_util.init_dist(launcher)


def test_slurm_without_its_command(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    for name, value in {'SLURM_PROCID': '0', 'SLURM_NTASKS': '2', 'SLURM_NODELIST': 'node[1-2]'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    with pytest.raises(RequestError, match=r'scontrol show hostname node\[1-2\]` failed .*set MASTER_ADDR'):
        dist_util.init_dist('slurm')
