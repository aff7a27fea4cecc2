"""The acceptance script at small sizes on a CPU: the checks pass, notice what is wrong, and lose no result."""

import importlib.util
import json

import pytest
import torch
from mock_cuda import MockCuda

import gpu_acceptance
from acceptance import correctness, fused, guarded_steps
from acceptance.checks import Check, Outcome, Setting, run_checks
from pdan_plugin.losses import hpem_loss
from pdan_plugin.machine.cuda_graphs import CudaRecorder
from pdan_plugin.models import guarded_step
from pdan_plugin.restoration import restorer
from pdan_plugin.training.parameter_average import ParameterAverage

CPU = torch.device('cpu')
QUICK = (
    'network', 'gradients', 'hard pixels', 'gates', 'fused block', 'tiles', 'tile memory', 'overflow', 'skipped step',
    'block', 'host tail', 'frame', 'parts',
)  # fmt: skip


def status(check):
    """Of a check on a CPU."""
    needs_triton = check.name == 'fused block' and importlib.util.find_spec('triton') is None
    return 'left out' if check.needs_cuda or needs_triton else 'passed'


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
        (check.name, status(check)) for check in gpu_acceptance.CHECKS if check.name in QUICK
    ]
    printed = capsys.readouterr().out
    for each in written['checks']:
        assert each['measured'] in printed
        assert f'criterion: {each["criterion"]}' in printed
    passed = sum(status(check) == 'passed' for check in gpu_acceptance.CHECKS if check.name in QUICK)
    assert f'{passed} of {len(QUICK)} checks passed' in printed


@pytest.mark.long  # its parts are in the test above, or are whole commands that have tests of their own
def test_the_whole_script_on_a_cpu(tmp_path):
    record = tmp_path / 'cpu.json'
    assert gpu_acceptance.main(['--cpu', '--json', str(record), '--minutes', '60']) == 0
    for each in json.loads(record.read_text())['checks']:
        assert each['status'] == status(next(one for one in gpu_acceptance.CHECKS if one.name == each['name'])), each


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


def test_what_cannot_be_run_here_is_left_out(tmp_path, monkeypatch):
    check = next(check for check in fused.checks() if check.name == 'fused block')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    (result,) = run([check], tmp_path)
    assert result.status == 'left out'
    assert result.measured.startswith('not run: Triton')


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


def test_a_skipped_step_that_moves_the_average_is_noticed(tmp_path, monkeypatch):
    move = ParameterAverage.move
    monkeypatch.setattr(ParameterAverage, 'move', lambda self, decay, unless=None: move(self, decay))
    check = next(check for check in guarded_steps.checks() if check.name == 'skipped step')
    assert [each.status for each in run([check], tmp_path)] == ['passed']  # a CPU reads the flag first
    monkeypatch.setattr(guarded_step, 'skips_by_flag', lambda optimizers: True)
    assert [each.status for each in run([check], tmp_path)] == ['failed']


@pytest.fixture
def cuda(monkeypatch):
    """A mock of CUDA graphs for the CPU."""
    mock = MockCuda()
    for module in (restorer, correctness):
        monkeypatch.setattr(module, 'recorder_for', lambda device: CudaRecorder(CPU, mock))
    return mock


@pytest.mark.long  # graphs of restore itself: tests/restoration
def test_the_check_of_graphs_is_of_what_restore_does(tmp_path, cuda):
    setting = Setting(CPU, True, tmp_path)
    outcome = correctness._graph(setting)
    # at most one grey level: a CPU computes a batch in bf16 a little differently
    assert outcome.is_met, outcome.measured
    assert outcome.figures['recordings'] == [3, 3]
    assert '_local_scalar_dense waits for a value on the host' in outcome.measured
    cuda.fails = 'end'
    assert not correctness._graph(setting).is_met


def test_a_graph_to_be_timed_is_one_that_was_recorded(cuda):
    convolution = torch.nn.Conv2d(3, 3, 3)
    picture = torch.rand(1, 3, 8, 8)
    assert torch.allclose(correctness.graphed(convolution, picture)(picture), convolution(picture))
    cuda.fails = 'begin'
    with pytest.raises(RuntimeError, match='cannot be recorded'):
        correctness.graphed(convolution, picture)
