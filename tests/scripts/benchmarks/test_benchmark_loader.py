"""The loader's benchmarks: real stores, both data sets, the trainer's own loader."""

import json
import sys

import pytest

from benchmarks import loader, loader_endurance
from benchmarks.loader import OURS, STOCK, benchmark_loader
from pdan_plugin.errors import RequestError

needs_linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='reads /proc and past the cache')


def test_the_ratio_is_samples_a_second_against_the_stock_data_set(monkeypatch):
    monkeypatch.setattr(loader, '_SAMPLES', dict.fromkeys(loader._SAMPLES, 2))
    result = benchmark_loader(rounds=1, frames=2)
    rates = result['samples_per_second']
    assert result['ratio'] == rates[OURS] / rates[STOCK]
    assert json.loads(json.dumps(result)) == result
    assert all(name in loader.table(result) for name in rates)


@needs_linux
def test_long_reading_looks_at_the_memory_of_all_processes():
    result = loader_endurance.benchmark_endurance(samples=640, workers=[0, 1], frames=3)
    alone, with_worker = result['runs']
    assert len(alone['memory']) == len(with_worker['memory']) == 20
    assert with_worker['memory'][-1] > alone['memory'][-1] + 50  # a worker is a process with torch in it
    assert '640 samples' in loader_endurance.table(result)


@needs_linux
def test_a_cold_store_is_read_and_removed(tmp_path):
    result = loader_endurance.benchmark_cold(tmp_path, gigabytes=0.11, samples=32, workers=[0, 1])
    assert [run['workers'] for run in result['runs']] == [0, 1]
    assert result['ratio'] == min(run['samples_per_second'] / run['disk'] for run in result['runs'])
    assert not list(tmp_path.iterdir())


@needs_linux
def test_a_cold_store_that_does_not_fit_or_suffice_is_refused(tmp_path):
    with pytest.raises(RequestError, match='GB are free'):
        loader_endurance.benchmark_cold(tmp_path, gigabytes=1e9, samples=32, workers=[0])
    with pytest.raises(RequestError, match=r'3000 samples need as many frames; 0\.1 GB hold 32'):
        loader_endurance.benchmark_cold(tmp_path, gigabytes=0.1, samples=3000, workers=[0])
    assert not list(tmp_path.iterdir())
