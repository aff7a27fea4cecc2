"""A process takes the cores it may use, and of those its share."""

import contextlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import pytest
import torch
from child_processes import PYTHON_PATH
from reds_tree import make_reds

import pdan_plugin.metrics.structural_similarity as similarity
from pdan_plugin.machine import control_groups
from pdan_plugin.machine.cores import (
    about_processor,
    cores_of_this_rank,
    one_thread,
    processor_name,
    usable_cores,
    use_one_thread,
)
from pdan_plugin.preparation import bounded_work, source_survey
from pdan_plugin.preparation.store_preparation import prepare_reds

SCRIPTS = Path(__file__).parents[2] / 'scripts'


@pytest.fixture
def fewer_cores():
    """bound(n): this thread to so many cores, as `taskset` or a batch system does."""
    if not hasattr(os, 'sched_setaffinity'):
        pytest.skip('this system binds no process to cores')
    before = os.sched_getaffinity(0)
    yield lambda count: os.sched_setaffinity(0, sorted(before)[:count])
    os.sched_setaffinity(0, before)


def test_bound_to_a_core_or_one_of_many_ranks(fewer_cores, monkeypatch):
    monkeypatch.delenv('LOCAL_WORLD_SIZE', raising=False)
    cores = usable_cores()
    assert cores <= len(os.sched_getaffinity(0))
    assert cores_of_this_rank() == cores
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    assert cores_of_this_rank() == max(1, cores // 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(4 * cores))
    assert cores_of_this_rank() == 1
    for no_number in ('0', '-2', 'many', ''):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', no_number)
        assert cores_of_this_rank() == cores
    monkeypatch.delenv('LOCAL_WORLD_SIZE')
    fewer_cores(1)
    assert cores_of_this_rank() == 1


def test_one_thread_for_a_while_and_for_good():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    try:
        with contextlib.suppress(KeyboardInterrupt), one_thread():
            assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
            raise KeyboardInterrupt
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
        use_one_thread()
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def test_the_processor_has_a_name():
    assert processor_name()
    assert about_processor('no such key') == ''


def test_ssim_runs_on_no_more(fewer_cores):
    fewer_cores(1)
    similarity._threads.cache_clear()
    try:
        assert similarity._threads(os.getpid())._max_workers == 1
    finally:
        similarity._threads.cache_clear()


def test_clips_are_rendered_on_the_cores_of_this_process(fewer_cores):
    """The default is in the help; a process started here is bound as this one."""
    fewer_cores(1)
    text = subprocess.run(
        [sys.executable, SCRIPTS / 'render_clips.py', '--help'], capture_output=True, text=True, check=True,
        timeout=600, env={**os.environ, 'PYTHONPATH': PYTHON_PATH},
    ).stdout  # fmt: skip
    assert 'one per core, here 1)' in ' '.join(text.split())


@pytest.mark.parametrize('limited_by', ['binding', 'quota'])
def test_stores_and_surveys_take_as_many_threads(fewer_cores, tmp_path, monkeypatch, limited_by):
    """A quota stands for that of a container: this process may not have groups of its own."""
    if limited_by == 'binding':
        fewer_cores(1)
    else:
        (tmp_path / 'group').mkdir()
        (tmp_path / 'group' / 'cpu.max').write_text('100000 100000\n')
        (tmp_path / 'own').write_text('0::/\n')
        monkeypatch.setattr(control_groups, '_ROOT', tmp_path / 'group')
        monkeypatch.setattr(control_groups, '_OWN_GROUPS', tmp_path / 'own')
        monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(16)), raising=False)
    threads = []

    class Watched(ThreadPoolExecutor):
        def __init__(self, workers):
            threads.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(bounded_work, 'ThreadPoolExecutor', Watched)
    make_reds(tmp_path / 'REDS', clips=1, frames=2)
    prepare_reds(tmp_path / 'REDS', tmp_path / 'stores')
    source_survey._sizes(['a', 'b'], lambda place: (1, 2), [])
    assert set(threads) == {1}


FORKED = """
import json, os, signal
import numpy as np, torch
import pdan_plugin
from basicsr.metrics import calculate_metric
from pdan_plugin.archs import PDAN
from pdan_plugin.restoration.restorer import Restorer

torch.set_num_threads(4)
torch.manual_seed(0)
picture = np.random.default_rng(0).integers(0, 256, (200, 210, 3), dtype=np.uint8)
restorer = Restorer(PDAN(num_feat=16, num_group=1, num_block=1, fuse_levels=1, deblur_branch=False), 'cpu')
work = {
    'restorer': lambda: int(restorer.restore_picture(picture[:64, :64]).astype(int).sum()),
    'niqe': lambda: round(calculate_metric({'img': picture}, {'type': 'calculate_niqe', 'crop_border': 0}), 3),
}
here = {name: each() for name, each in work.items()}
child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that waits for ever
    differing = [name for name, each in work.items() if abs(each() - here[name]) > 1e-4 * abs(here[name])]
    print('differing:', *differing, flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system forks no processes')
def test_a_process_forked_after_torch_has_computed_computes_the_same():
    """The parent's threads are not in the child; this process keeps its own."""
    printed = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FORKED], capture_output=True, text=True, timeout=300, check=True,
        env={**os.environ, 'PYTHONPATH': PYTHON_PATH},
    ).stdout  # fmt: skip
    assert printed.splitlines() == ['differing:', '0 4']
