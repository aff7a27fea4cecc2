"""The log file of a run, and a pipeline that pytest collects as a test."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from typing import Any

from basicsr.utils import logger as toolbox_logger
from basicsr.utils.dist_util import get_dist_info

from pdan_plugin.errors import refusing_unwritable
from pdan_plugin.toolbox_fixes.patching import fix, replace

_FORMAT = '%(asctime)s %(levelname)s: %(message)s'


@fix(
    where='utils/logger.py:166,176',
    upstream='none',
    symptom='no log file if anything was logged before the pipeline; a second run writes into the log of the first; a '
    'name that the locale cannot encode is missing in it',
)
def every_run_has_its_log_file() -> None:
    """Each call of `get_root_logger(log_file=...)` opens that file and closes the previous one.

    Each call also reads the rank again, because the first call may come before the process group is joined.
    Not probed: a probe would have to write a log file.
    """
    published = toolbox_logger.get_root_logger

    @functools.wraps(published)
    def get_root_logger(
        logger_name: str = 'basicsr', log_level: int = logging.INFO, log_file: str | None = None
    ) -> logging.Logger:
        logger = published(logger_name=logger_name)  # the first call adds the console handler
        rank, _ = get_dist_info()
        if rank != 0:
            logger.setLevel('ERROR')
        elif log_file is not None:
            _open_log_file(logger, log_level, log_file)
        return logger

    replace(toolbox_logger, 'get_root_logger', get_root_logger)


def _open_log_file(logger: logging.Logger, log_level: int, log_file: str) -> None:
    for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
        if handler.baseFilename == os.path.abspath(log_file):
            return
        logger.removeHandler(handler)
        handler.close()
    # append: two runs that start in the same second have the same file name
    with refusing_unwritable(log_file):
        handler = logging.FileHandler(log_file, 'a', encoding='utf-8', errors='backslashreplace')
    handler.setFormatter(logging.Formatter(_FORMAT))
    handler.setLevel(log_level)
    logger.addHandler(handler)
    logger.setLevel(log_level)


@fix(
    where='test.py:11',
    upstream='none',
    symptom='pytest collects an imported test_pipeline as a test',
    behaves=lambda: getattr(_pipeline(), '__test__', True) is False,
)
def pipeline_is_no_test() -> None:
    """pytest does not collect objects with `__test__ = False`."""
    replace(_pipeline(), '__test__', False)


def _pipeline() -> Any:
    return importlib.import_module('basicsr.test').test_pipeline
