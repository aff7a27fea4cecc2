"""The validation benchmark: real processes, the same scores on every side."""

import json

import pytest

from benchmarks import validation
from benchmarks.validation import ONE, STOCK, TWO, benchmark_validation


@pytest.fixture(scope='module')
def result():
    return benchmark_validation(rounds=1, features=16, pictures=3)


@pytest.mark.long  # four processes; scores of several ranks: tests/models/test_sharded_validation.py
def test_all_sides_score_the_same_pictures_alike(result):
    assert result['same_scores']
    assert result['pictures'] == 3
    assert set(result['scores'][STOCK]) == {'psnr', 'ssim'}


@pytest.mark.long
def test_the_result_is_told(result):
    assert result['ratio'] == result['seconds'][ONE] / result['seconds'][TWO]
    assert {name: len(times) for name, times in result['times'].items()} == {ONE: 1, TWO: 1, STOCK: 1}
    assert json.loads(json.dumps(result)) == result
    assert all(name in validation.table(result) for name in (ONE, TWO, STOCK))


def test_a_process_that_fails_says_why(tmp_path):
    with validation._processes(tmp_path, features=16) as start:
        worker = start(0, 1)  # there are no pictures
        worker.send('ours')
        with pytest.raises(RuntimeError, match='A validating process failed:\n'):
            worker.receive()
    assert not worker.process.is_alive()
