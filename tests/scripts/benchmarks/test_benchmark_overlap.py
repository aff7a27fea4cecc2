"""What the overlap benchmark reports."""

from benchmarks import overlap


def test_each_kind_is_compared_with_its_slowest_stage():
    measured = overlap.benchmark_overlap(2, 3, [0.001])
    assert list(measured['kinds']) == ['pictures, network 1 ms', 'video, network 1 ms']
    for kind in measured['kinds'].values():
        *stages, processor, whole = kind['seconds'].values()
        assert list(kind['seconds'])[-2:] == ['processor', 'whole']
        assert len(stages) == 3
        assert processor > 0
        assert kind['share'] == max(stages) / whole
        assert kind['of_limit'] == max(*stages, processor) / whole
        assert kind['in_turn'] == sum(stages) / whole
    assert 'pictures, network 1 ms' in overlap.table(measured)
    assert measured['png']['bytes'] > 1e5
