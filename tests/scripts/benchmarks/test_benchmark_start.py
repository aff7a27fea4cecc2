"""scripts/benchmark.py start."""

import pytest

from benchmarks import start
from pdan_plugin.commands.main import COMMANDS


@pytest.fixture(scope='module')
def result():
    few = {start.PASS, start.TORCH, start.RESTORED, 'basicsr --help', 'basicsr train (no -opt)'}
    kept = {name: each for name, each in start._starts().items() if name in few}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, '_starts', lambda: kept)
        return start.benchmark_start(rounds=1)


def test_help_is_measured_without_the_memory_of_what_measures(result):
    """This process has imported torch, and takes hundreds of megabytes."""
    assert result['megabytes']['basicsr --help'] < 60 < 300 < result['megabytes'][start.TORCH]
    assert result['ratio'] == result['seconds'][start.RESTORED] / result['seconds'][start.TORCH]


def test_the_table_has_a_line_for_each(result):
    lines = start.table(result).splitlines()
    assert [line[:40].strip() for line in lines[1:-1]] == list(result['seconds'])
    assert lines[-1].startswith('A restored picture takes ')


def test_every_command_is_among_them():
    assert {f'basicsr {name} --help' for name in COMMANDS} <= set(start._starts())


def test_another_exit_status_ends_the_benchmark(tmp_path):
    with pytest.raises(RuntimeError, match='nothing ended with status 3, expected 0'):
        start._measure('nothing', start._Start(['-c', 'import sys; sys.exit(3)']), str(tmp_path))
