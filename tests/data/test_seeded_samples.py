"""A data set behind seeds answers as the data set itself."""

import pickle
import random

import pytest
import torch
from torch.utils.data import Dataset

from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.sample_seeds import SeededSamples


class Draws(Dataset):
    """Samples are what two of the generators draw."""

    opt = {'name': 'draws'}  # noqa: RUF012

    def __init__(self, length=8):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.tensor([random.random(), torch.rand(1).item()])


def test_the_data_set_is_answered_for_and_travels_to_a_spawned_worker():
    samples = pickle.loads(pickle.dumps(SeededSamples(Draws(3), 5)))
    assert (len(samples), samples.length, samples.opt['name']) == (3, 3, 'draws')
    assert torch.equal(samples[SampleIndex(1, 2, 0)], SeededSamples(Draws(), 5)[SampleIndex(1, 2, 0)])
    with pytest.raises(AttributeError, match='absent'):
        _ = samples.absent
