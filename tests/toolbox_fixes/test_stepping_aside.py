"""Every fix asks first: it does nothing to a toolbox that behaves, and is needed by the published one."""

import random
import sys
import threading

import numpy as np
import pytest
import torch

from pdan_plugin.toolbox_fixes import FIXES, patching

# what these mend shows only in files they would have to write, or in the end of the process
NOT_PROBED = {
    'every_run_has_its_log_file',
    'kept_options_are_those_run',
    'resume_from_the_newest_whole_state',
    'images_are_written_under_any_name',
}
# these stand in for missing modules, and stay in place under stock_toolbox()
IMPORTS = {
    'torchvision_functional_tensor',
    'scipy_ndimage_filters',
    'distutils_version',
    'losses_are_also_in_one_module',
}


def _named(fixes):
    return [pytest.param(each, id=each.name) for each in fixes]


def _generators():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


@pytest.fixture
def nothing_left(tmp_path, monkeypatch, capfd):
    """A block's end finds the generators, working folder, threads and replacements as before, and no output."""
    monkeypatch.chdir(tmp_path)
    before = _generators(), threading.active_count(), list(patching._replacements), list(sys.argv)
    yield
    assert (_generators(), threading.active_count(), patching._replacements, sys.argv) == before
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('fix', _named(each for each in FIXES if each.name not in NOT_PROBED))
def test_a_fix_steps_aside_where_the_toolbox_behaves(fix, nothing_left):
    assert fix.apply() is False


@pytest.mark.parametrize('fix', _named(each for each in FIXES if each.name not in NOT_PROBED | IMPORTS))
def test_the_published_toolbox_needs_the_fix(fix, nothing_left, stock, monkeypatch):
    asked = []
    monkeypatch.setattr(patching, '_set', asked.append)
    with stock():
        assert fix.apply() is True
    assert asked


def test_the_fixes_that_do_not_ask_are_known():
    assert {each.name for each in FIXES} >= NOT_PROBED | IMPORTS
    for each in FIXES:
        if each.name in NOT_PROBED:
            assert each.behaves is None
            assert 'Not probed' in str(each.make.__doc__)
