"""The acceptance script at small sizes on a CPU: the checks pass, notice what is wrong, and lose no result."""

import json

import pytest
import torch

import gpu_acceptance
from acceptance import correctness
from acceptance.checks import Check, Outcome, Setting, run_checks
from pdan_plugin.losses import hpem_loss

CPU = torch.device('cpu')
QUICK = ('network', 'gradients', 'hard pixels', 'gates', 'tiles', 'overflow', 'block', 'host tail', 'frame', 'parts')


def run(checks, folder, seconds=600.0):
    seen = []
    assert run_checks(checks, Setting(CPU, True, folder), seconds, seen.append) == seen
    return seen


def test_what_a_cpu_can_show_passes_and_is_recorded(tmp_path, capsys):
    record = tmp_path / 'cpu.json'
    assert gpu_acceptance.main(['--cpu', '--json', str(record), '--only', *QUICK]) == 0
    written = json.loads(record.read_text())
    assert written['machine']['card'] is None
    assert [(each['name'], each['status']) for each in written['checks']] == [
        (check.name, 'passed') for check in gpu_acceptance.CHECKS if check.name in QUICK
    ]
    printed = capsys.readouterr().out
    for each in written['checks']:
        assert each['measured'] in printed
        assert f'criterion: {each["criterion"]}' in printed
    assert f'{len(QUICK)} of {len(QUICK)} checks passed' in printed


@pytest.mark.long  # its parts are in the test above, or are whole commands that have tests of their own
def test_the_whole_script_on_a_cpu(tmp_path):
    record = tmp_path / 'cpu.json'
    assert gpu_acceptance.main(['--cpu', '--json', str(record), '--minutes', '60']) == 0
    for each in json.loads(record.read_text())['checks']:
        needs_cuda = next(check.needs_cuda for check in gpu_acceptance.CHECKS if check.name == each['name'])
        assert each['status'] == ('left out' if needs_cuda else 'passed'), each


def test_names_are_unique_and_listed_with_their_criteria(capsys):
    assert len({check.name for check in gpu_acceptance.CHECKS}) == len(gpu_acceptance.CHECKS)
    assert gpu_acceptance.main(['--list']) == 0
    printed = capsys.readouterr().out
    assert all(check.name in printed and check.criterion in printed for check in gpu_acceptance.CHECKS)


def test_wrong_requests(capsys):
    assert gpu_acceptance.main(['--cpu', '--only', 'gaps']) == 2
    assert 'gaps: no such check' in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert gpu_acceptance.main([]) == 2
        assert '--cpu' in capsys.readouterr().err


def test_an_error_is_one_checks_result(tmp_path):
    def fails(setting):
        raise RuntimeError('first line\nsecond line')

    results = run([Check('one', '', fails), Check('two', '', lambda setting: Outcome(True, 'fine'))], tmp_path)
    assert [(each.status, each.measured) for each in results] == [
        ('error', 'RuntimeError: first line'), ('passed', 'fine'),
    ]  # fmt: skip


def test_what_was_not_run_says_why(tmp_path):
    def never(setting):
        raise AssertionError('it was not to run')

    on_cuda, late = run([Check('one', '', never, needs_cuda=True), Check('two', '', never)], tmp_path, seconds=-1.0)
    assert (on_cuda.status, on_cuda.measured) == ('left out', 'needs a CUDA device')
    assert (late.status, late.measured) == ('left out', 'the time limit was reached')


def test_failed_checks_are_named_and_end_in_status_1(tmp_path, monkeypatch, capsys):
    checks = [Check('one', 'more', lambda setting: Outcome(False, 'less')), gpu_acceptance.CHECKS[0]]
    monkeypatch.setattr(gpu_acceptance, 'CHECKS', checks)
    assert gpu_acceptance.main(['--cpu']) == 1
    answer = capsys.readouterr()
    assert '1 of 2 checks passed' in answer.out
    assert 'checks that failed: one' in answer.err


def test_checks_that_no_time_is_left_for_are_offered_again(monkeypatch, capsys):
    monkeypatch.setattr(gpu_acceptance, 'run_checks', lambda checks, setting, seconds, record: run_checks(
        checks, setting, -1.0, record))  # fmt: skip
    assert gpu_acceptance.main(['--cpu', '--only', 'gates']) == 1
    assert '--only gates' in capsys.readouterr().err


def test_another_choice_of_equal_errors_is_noticed(tmp_path, monkeypatch):
    plain = hpem_loss.hard_pixel_mask
    check = next(check for check in correctness.checks() if check.name == 'hard pixels')

    def last_ties(error, hard_count):
        if error.dtype == torch.float64:
            return plain(error, hard_count)
        return plain(error.flip(1, 2), hard_count).flip(1, 2)

    monkeypatch.setattr(hpem_loss, 'hard_pixel_mask', last_ties)
    assert [each.status for each in run([check], tmp_path)] == ['failed']


def test_a_gate_without_its_spatial_part_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(correctness, 'gated_residual', lambda x, branch, channel, spatial: x + branch * (
        channel + 0 * spatial))  # fmt: skip
    check = next(check for check in correctness.checks() if check.name == 'gates')
    assert [each.status for each in run([check], tmp_path)] == ['failed']


def test_seams_are_noticed(tmp_path, monkeypatch):
    class WithoutOverlap(correctness.Restorer):
        def __init__(self, network, device, **arguments):
            super().__init__(network, device, **arguments, overlap=0)

    monkeypatch.setattr(correctness, 'Restorer', WithoutOverlap)
    check = next(check for check in correctness.checks() if check.name == 'tiles')
    assert [each.status for each in run([check], tmp_path)] == ['failed']
