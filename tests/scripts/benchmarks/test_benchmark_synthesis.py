"""The synthesis benchmark: both sides make the same pair."""

import json

from benchmarks import synthesis
from benchmarks.synthesis import WHOLE, benchmark_synthesis


def test_both_sides_make_the_same_pair():
    result = benchmark_synthesis(rounds=1, subframes=3)
    assert result['largest_difference'] <= 1
    assert result['ratio'] == result['seconds']['plain'][WHOLE] / result['seconds']['ours'][WHOLE]
    assert json.loads(json.dumps(result)) == result
    assert '3 sub-frames of 1280x720' in synthesis.table(result)
