"""A process takes the cores it may use, and of those its share."""

import os

import pytest

import pdan_plugin.metrics.structural_similarity as similarity
from pdan_plugin.machine.cores import cores_of_this_rank


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
    cores = len(os.sched_getaffinity(0))
    assert cores_of_this_rank() == cores
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    assert cores_of_this_rank() == max(1, cores // 2)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(4 * cores))
    assert cores_of_this_rank() == 1
    monkeypatch.delenv('LOCAL_WORLD_SIZE')
    fewer_cores(1)
    assert cores_of_this_rank() == 1


def test_ssim_runs_on_no_more(fewer_cores):
    fewer_cores(1)
    similarity._threads.cache_clear()
    try:
        assert similarity._threads()._max_workers == 1
    finally:
        similarity._threads.cache_clear()
