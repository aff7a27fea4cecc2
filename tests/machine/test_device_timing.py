"""Work is timed in turn, on a GPU by events. The GPU is a mock."""

import time
from types import SimpleNamespace

import pytest
import torch

from pdan_plugin.machine import device_timing
from pdan_plugin.machine.device_timing import seconds_of


def test_calls_are_in_turn_and_the_first_of_each_does_not_count():
    calls = []

    def work(name):
        calls.append(name)
        if len(calls) <= 2:
            time.sleep(0.2)

    seconds = seconds_of({name: lambda name=name: work(name) for name in 'ab'}, torch.device('cpu'))
    assert calls == list('ab' * 4)
    assert 0 <= max(seconds.values()) < 0.2


class MockEvent:
    """A mock of a GPU's event: the device's clock is set by the test."""

    clock = 0.0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.time = MockEvent.clock

    def synchronize(self):
        self.is_over = True

    def elapsed_time(self, other):
        assert other.is_over
        return other.time - self.time


@pytest.mark.parametrize('kind', ['cuda', 'xpu'])
def test_a_gpu_is_timed_by_its_events(kind, monkeypatch):
    places = []

    class Place:
        def __init__(self, device):
            places.append(device)

        def __enter__(self):
            return self

        def __exit__(self, *of_error):
            return None

    monkeypatch.setattr(device_timing, 'device_module', lambda device: SimpleNamespace(Event=MockEvent, device=Place))

    def work(milliseconds):
        MockEvent.clock += milliseconds

    device = torch.device(kind, 1)
    seconds = seconds_of({'slow': lambda: work(30.0), 'fast': lambda: work(20.0)}, device)
    assert seconds == {'slow': pytest.approx(0.03), 'fast': pytest.approx(0.02)}
    assert set(places) == {device}
