"""What every test gets: seeded generators, and on request the toolbox as published and a Python process."""

import importlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from headless_chromium import browser  # noqa: F401 (a fixture; one for all, as one process runs one Playwright)
from warm_processes import run_python

from pdan_plugin.toolbox_fixes import stock_toolbox

REPOSITORY = Path(__file__).parents[1]

# the toolbox's log keeps the error stream of its first call, which must not be one that ends with a test
importlib.import_module('basicsr.utils').get_root_logger()


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the generator the toolbox draws from)
    torch.manual_seed(0)


@pytest.fixture
def stock():
    """`with stock():` is the toolbox without the fixes."""
    return stock_toolbox


@pytest.fixture
def python(tmp_path):
    """run(script text, *arguments, launcher=()) -> the finished process, a new Python started in tmp_path."""

    def run(text, *arguments, launcher=(), environment=None):
        script = tmp_path / 'script.py'
        script.write_text(text)
        return subprocess.run(
            [sys.executable, *launcher, str(script), *map(str, arguments)],
            cwd=tmp_path, capture_output=True, text=True, timeout=600,
            env=os.environ | {'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'} | (environment or {}),
        )  # fmt: skip

    return run


@pytest.fixture
def warm_python(tmp_path):
    """run(script text, *arguments) -> the finished process, started in tmp_path with the package imported already."""

    def run(text, *arguments):
        script = tmp_path / 'script.py'
        script.write_text(text)
        return run_python(script, *arguments, cwd=tmp_path)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Captured output may hold names that are not UTF-8, which pytest-xdist cannot send to its first process."""
    report = yield
    report.sections = [(name, text.encode('utf-8', 'backslashreplace').decode()) for name, text in report.sections]
    return report
