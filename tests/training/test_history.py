"""The record of a run: what a crash, a resume and a full disk leave of it."""

import errno
import json
import math
import resource

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.training import history
from pdan_plugin.training.history import History, TrainingLine, ValidationLine, read_history, run_history

LOSS = 0.1 + 0.2  # 0.30000000000000004


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'history.jsonl'


def _train(record, first, last):
    """What a run writes from one iteration to another: it logs at each and validates two sets at each second."""
    for iteration in range(first, last + 1):
        record.add_training(iteration, iteration // 3, [1e-4 / iteration], {'l_pix': LOSS / iteration})
        if iteration % 2 == 0:
            record.add_validation(iteration, 'REDS', {'psnr': 25 + 1 / iteration})
            record.add_validation(iteration, 'val300', {'psnr': 24 + 1 / iteration})


def test_lines_read_back_as_they_were(path):
    record = History(path)
    record.add_training(100, 0, [1e-4, 2e-5], {'l_pix': LOSS, 'out_d_real': -1 / 3})
    record.add_validation(100, 'REDS', {'psnr': 25.1})
    assert read_history(path) == [
        TrainingLine(100, 0, (1e-4, 2e-5), {'l_pix': LOSS, 'out_d_real': -1 / 3}),
        ValidationLine(100, 'REDS', {'psnr': 25.1}),
    ]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {'iter': 100, 'epoch': 0, 'lr': [1e-4, 2e-5], 'losses': {'l_pix': LOSS, 'out_d_real': -1 / 3}},
        {'iter': 100, 'dataset': 'REDS', 'metrics': {'psnr': 25.1}},
    ]


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_json_and_reads_back(path, value):
    record = History(path)
    record.add_training(1, 0, [1e-4], {'l_pix': value})
    record.add_validation(1, 'REDS', {'psnr': value})

    def no_json(constant):
        raise AssertionError(constant)

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=no_json)
    training, validation = read_history(path)
    assert repr(training.losses['l_pix']) == repr(validation.metrics['psnr']) == repr(value)


@pytest.mark.parametrize('torn', [0, 1, 20])
@pytest.mark.parametrize('killed_at', [4, 5, 7])
def test_a_resumed_run_ends_with_the_bytes_of_one_that_never_stopped(tmp_path, killed_at, torn):
    whole, path = tmp_path / 'whole.jsonl', tmp_path / 'history.jsonl'
    _train(History(whole), 1, 8)
    _train(History(path), 1, killed_at)
    if torn:
        path.write_bytes(path.read_bytes()[:-torn])
    record = History(path)
    record.begin(3)
    _train(record, 4, 8)
    assert path.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob('.*'))


def test_the_validations_at_the_iteration_resumed_from_are_known(path):
    _train(History(path), 1, 3)
    record = History(path)
    record.begin(2)
    assert record.validations(2) == {'REDS': {'psnr': 25.5}, 'val300': {'psnr': 24.5}}
    assert record.validations(4) == {}
    before = path.read_bytes()
    record.add_validation(2, 'REDS', {'psnr': 25.5})
    assert path.read_bytes() == before


def test_a_last_line_that_lacks_only_its_end_is_kept(path):
    _train(History(path), 1, 3)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    History(path).begin(3)
    assert path.read_bytes() == content


def test_a_torn_last_line_is_not_read(path):
    path.write_bytes(b'{"iter": 1, "dataset": "REDS", "metrics": {}}\n{"iter": 2, "epo')
    assert read_history(path) == [ValidationLine(1, 'REDS', {})]


def test_an_unreadable_line_in_the_middle_is_named(path):
    path.write_bytes(b'{"iter": 1, "dataset": "REDS", "metrics": {}}\nmerge conflict\n{"iter": 2, "dataset": "R"')
    for read in (read_history, lambda path: History(path).begin(1)):
        with pytest.raises(RequestError, match=r"history\.jsonl: line 2 is not .*'merge conflict'; remove that line"):
            read(path)


def test_a_rank_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = History(None)
    record.begin(0)
    _train(record, 1, 2)
    record.sync()
    assert record.validations(2) == {}
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_and_leaves_whole_lines(path):
    record = History(path)
    _train(record, 1, 3)
    content = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 10, hard))  # takes 10 bytes more, as a full disk may
    try:
        with pytest.raises(OSError, match='cannot write the training history') as full:
            record.add_training(4, 1, [1e-4], {'l_pix': LOSS})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.filename == str(path)
    assert full.value.errno == errno.EFBIG
    assert path.read_bytes() == content


def test_a_device_that_takes_nothing_is_named():
    with pytest.raises(OSError, match='/dev/full') as full:
        History('/dev/full').add_training(1, 0, [1e-4], {'l_pix': LOSS})
    assert full.value.errno == errno.ENOSPC


class TestRunHistory:
    @pytest.fixture(autouse=True)
    def _no_run_before(self):
        history.forget_runs()
        yield
        history.forget_runs()

    @pytest.fixture
    def opt(self, tmp_path):
        return {'path': {'experiments_root': str(tmp_path)}, 'rank': 0}

    def test_copies_of_the_options_share_the_record(self, opt, path):
        record = run_history(opt)
        assert run_history({**opt, 'path': dict(opt['path'])}) is record
        record.add_validation(1, 'REDS', {'psnr': 25.0})
        assert read_history(path) == [ValidationLine(1, 'REDS', {'psnr': 25.0})]

    def test_a_run_goes_on_from_the_iteration_it_resumes(self, opt, path):
        _train(run_history(opt), 1, 4)
        history.forget_runs()
        record = run_history({**opt, 'resume_iter': 2})
        assert [line.iteration for line in read_history(path)] == [1, 2, 2, 2]
        assert set(record.validations(2)) == {'REDS', 'val300'}

    def test_other_ranks_write_nothing(self, opt, path):
        run_history({**opt, 'rank': 1}).add_validation(1, 'REDS', {'psnr': 25.0})
        assert not path.exists()
