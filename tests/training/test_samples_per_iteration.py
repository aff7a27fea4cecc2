"""How many samples one optimizer step takes."""

import pytest

from pdan_plugin.training.training_log import samples_per_iteration


@pytest.mark.parametrize(
    ('changes', 'samples'),
    [
        ({}, 4),
        ({'num_gpu': 2}, 8),  # DataParallel: one process, a loader for all its GPUs
        ({'num_gpu': 2, 'dist': True, 'world_size': 3}, 12),
        ({'train': {'accumulation_steps': 5}}, 20),
    ],
)
def test_samples_of_an_iteration_are_those_of_all_ranks_and_parts(changes, samples):
    opt = {'datasets': {'train': {'batch_size_per_gpu': 4}}, 'num_gpu': 0, 'dist': False, 'world_size': 1, 'train': {}}
    assert samples_per_iteration({**opt, **changes}) == samples
