"""A data set, and runs on it."""

import pytest
from written_runs import make_data, make_run


@pytest.fixture
def truth(tmp_path):
    return make_data(tmp_path)


@pytest.fixture
def runs(tmp_path, truth):
    """Two runs, the second better."""
    return [make_run(tmp_path, 'soft', truth, blur=1.5), make_run(tmp_path, 'sharp', truth, blur=0.6)]
