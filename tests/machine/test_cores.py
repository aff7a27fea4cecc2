"""A process takes the cores it may use, and of those its share."""

import contextlib
import os

import cv2
import pytest
import torch

import pdan_plugin.metrics.structural_similarity as similarity
from pdan_plugin.machine.cores import (
    about_processor,
    cores_of_this_rank,
    one_thread,
    processor_name,
    usable_cores,
    use_one_thread,
)


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
