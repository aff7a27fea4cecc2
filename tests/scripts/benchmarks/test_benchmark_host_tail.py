"""What the benchmark of the end of a step reports."""

import json

import pytest
import torch

from benchmarks import host_tail


def test_both_parts_are_compared_with_their_older_forms():
    kernels = {name: getattr(torch, name) for name in host_tail._KERNELS}
    result = host_tail.benchmark_host_tail(1, torch.device('cpu'), num_group=2, num_block=1)
    assert {name: getattr(torch, name) for name in host_tail._KERNELS} == kernels  # put back
    forms = (host_tail.TOOLBOX, host_tail.BEFORE, host_tail.NOW)
    for part in ('average', 'Adam'):
        assert tuple(result['whole'][part]) == forms
        assert tuple(result['python'][part]) == forms[1:]
    python = result['python']
    before, now = (sum(each[form] for each in python.values()) for form in forms[1:])
    assert result['ratio'] == pytest.approx(before / now)
    assert json.loads(json.dumps(result)) == result
    printed = host_tail.table(result)
    assert all(f'{part}, {form}' in printed for part in python for form in forms)


def test_the_forms_compute_the_same():
    networks = [host_tail._network(2, 1) for _ in range(2)]
    averages = [host_tail._network(2, 1) for _ in range(2)]
    for pair in (networks, averages):
        pair[1].load_state_dict(pair[0].state_dict())
    host_tail._average_by_name(networks[0], averages[0])
    host_tail.ParameterAverage(networks[1], averages[1]).move(host_tail._DECAY)
    assert all(map(torch.equal, averages[0].parameters(), averages[1].parameters()))
