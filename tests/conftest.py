"""What every test gets: seeded generators, and the toolbox as published on request."""

import importlib
import random

import numpy as np
import pytest
import torch

from pdan_plugin.toolbox_fixes import stock_toolbox

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
