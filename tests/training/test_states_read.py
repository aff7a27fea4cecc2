"""Training states are read by safe rules."""

import os

import numpy as np
import pytest
import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.training.checkpoints import read_state


def test_numpy_numbers_in_a_state_are_read(tmp_path):
    state = {'epoch': 0, 'iter': 9, 'optimizers': [], 'schedulers': [], 'best': np.float64(31.5), 'at': np.int64(5)}
    torch.save(state, tmp_path / '9.state')
    assert read_state(str(tmp_path / '9.state')) == state
    torch.save(state | {'code': os.system}, tmp_path / '9.state')
    with pytest.raises(RequestError, match='could run code'):
        read_state(str(tmp_path / '9.state'))
