"""Log files of runs in one process."""

import importlib
import logging

import pytest
from basicsr.utils import logger as toolbox_logger


@pytest.fixture
def log(monkeypatch):
    """A logger name of this test's own; its files are closed afterwards."""
    name = 'basicsr_test_run_log'
    yield lambda **arguments: toolbox_logger.get_root_logger(logger_name=name, **arguments)
    toolbox_logger.initialized_logger.pop(name, None)
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def test_every_run_has_its_own_file(log, tmp_path):
    log().warning('early')
    for run in ('first', 'second'):
        log(log_file=str(tmp_path / f'{run}.log')).info(f'of the {run} run')
        log().info(f'later in the {run} run')
    for run, other in (('first', 'second'), ('second', 'first')):
        text = (tmp_path / f'{run}.log').read_text()
        assert text.count(f'of the {run} run') == 1
        assert text.count(f'later in the {run} run') == 1
        assert other not in text
    assert len(log().handlers) == 2


def test_the_stock_log_is_lost_after_an_early_word(stock, log, tmp_path):
    with stock():
        log().warning('early')
        log(log_file=str(tmp_path / 'run.log')).info('lost')
    assert not (tmp_path / 'run.log').exists()


def test_a_rank_that_is_not_the_first_is_silent(log, tmp_path, monkeypatch):
    log()
    monkeypatch.setattr('pdan_plugin.toolbox_fixes.run_log.get_dist_info', lambda: (1, 2))
    assert log(log_file=str(tmp_path / 'run.log')).level == logging.ERROR
    assert not (tmp_path / 'run.log').exists()


def test_the_tester_is_no_test(stock):
    pipeline = importlib.import_module('basicsr.test').test_pipeline
    assert pipeline.__test__ is False
    with stock():
        assert not hasattr(pipeline, '__test__')
