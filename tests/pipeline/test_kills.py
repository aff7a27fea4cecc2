"""A run killed in its work goes on to the very bits of one that was not: tests/support/kills.py, small."""

import random

import kills
import pytest


@pytest.mark.parametrize(
    ('ranks', 'moments'),
    [
        (1, ('save', 'validation', 'any')),
        pytest.param(2, ('any',), marks=pytest.mark.long),  # two ranks that are killed: test_elastic.py
    ],
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, ranks, moments):
    chosen = kills.options(total_iter=40)
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    for folder in (whole, killed):
        kills.prepare(folder, chosen)
    kills.run_to_the_end(whole, ranks)
    draw = random.Random(7)
    for moment in moments:
        assert kills.kill(killed, moment, draw, ranks)
    kills.run_to_the_end(killed, ranks)
    assert kills.differences(whole, killed) == []
