"""What is timed and what is not, and how much memory a call is said to take."""

import time
from contextlib import contextmanager

import pytest
import torch

from benchmarks.full_network import largest_that_fits
from benchmarks.timing import Candidate, header, machine, medians, memory_of, times_in_turn


def test_candidates_are_called_in_turn_each_in_its_context():
    seen = []

    @contextmanager
    def context():
        seen.append('in')
        yield
        seen.append('out')

    candidates = {'a': Candidate(lambda: seen.append('a')), 'b': Candidate(lambda: seen.append('b'), context)}
    times = times_in_turn(candidates, rounds=2, warm_up=1)
    assert seen == ['a', 'in', 'b', 'out'] * 3
    assert {name: len(each) for name, each in times.items()} == {'a': 2, 'b': 2}


def test_entering_a_context_is_not_timed():
    @contextmanager
    def slow():
        time.sleep(0.2)
        yield
        time.sleep(0.2)

    times = times_in_turn({'a': Candidate(lambda: None, slow)}, rounds=1, warm_up=0)
    assert times['a'][0] < 0.2


def test_the_median_is_taken():
    assert medians({'a': [5.0, 1.0, 2.0]}) == {'a': 2.0}


def test_memory_is_what_a_call_holds_at_its_peak():
    held = torch.zeros(1000, 1000)

    def call():
        first = held + 1
        second = first + 1
        del first
        return (second + 1).sum()

    assert memory_of(call, torch.device('cpu')) == pytest.approx(8e6, rel=0.01)  # of float32, two at a time


@pytest.mark.parametrize('largest', [0, 1, 2, 3, 7, 8, 37, 63, 64, 100])
def test_the_largest_that_fits_is_found(largest):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= largest

    assert largest_that_fits(fits, limit=64) == min(largest, 64)
    assert max(tried) <= 64
    assert len(tried) == len(set(tried))


def test_the_header_names_the_machine():
    described = machine(torch.device('cpu'))
    assert described['processor'] in header(described)
    assert torch.__version__ in header(described)
