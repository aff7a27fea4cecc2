"""What is timed and what is not, and how much memory a call is said to take."""

import time
from contextlib import contextmanager

import pytest
import torch

from benchmarks import full_network
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


class _Card:
    """A stand-in for a training on a card: it fails in the words of cuDNN above some samples."""

    def __init__(self, samples):
        self.samples = samples

    def step(self, iteration, batch):
        if len(batch['lq_path']) > self.samples:
            raise RuntimeError('GET was unable to find an engine to execute this computation')


@pytest.mark.parametrize('samples', [3, 0])
def test_a_batch_that_cudnn_cannot_compute_is_too_large_unless_it_is_the_smallest(samples, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)  # a mock: no card is here

    def fits(size):
        return full_network._trains(_Card(samples), {'lq_path': [''] * size})

    if samples:
        assert largest_that_fits(fits, limit=64) == samples
    else:
        with pytest.raises(RuntimeError, match='unable to find an engine'):
            largest_that_fits(fits, limit=64)


def test_the_header_names_the_machine():
    described = machine(torch.device('cpu'))
    assert described['processor'] in header(described)
    assert torch.__version__ in header(described)
