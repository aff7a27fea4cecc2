"""How many batches an epoch has, and indices that know their epoch."""

import pickle

import pytest
from basicsr.data.data_sampler import EnlargedSampler

from pdan_plugin.data.epochs import SampleIndex, iterations_per_epoch
from pdan_plugin.errors import RequestError


@pytest.mark.parametrize(
    ('images', 'ratio', 'batch', 'ranks', 'expected'),
    [(6, 1, 4, 1, 1), (6, 2, 4, 1, 3), (6, 1, 1, 4, 2), (7, 1.5, 3, 2, 2), (8, 1, 8, 1, 1)],
)
def test_an_epoch_is_as_many_batches_as_the_loader_yields(images, ratio, batch, ranks, expected):
    sampler = EnlargedSampler(range(images), ranks, 0, ratio)
    assert iterations_per_epoch(images, ratio, batch, ranks) == expected == len(sampler) // batch


@pytest.mark.parametrize(('images', 'ratio', 'batch', 'ranks'), [(6, 1, 8, 1), (3, 1, 4, 8), (4, 0.5, 3, 1)])
def test_less_than_a_batch_is_refused_with_a_ratio_that_is_enough(images, ratio, batch, ranks):
    with pytest.raises(RequestError, match=f'{images} images x dataset_enlarge_ratio {ratio} over {ranks}') as refused:
        iterations_per_epoch(images, ratio, batch, ranks)
    enough = int(str(refused.value).split(' or more')[0].split()[-1])
    assert iterations_per_epoch(images, enough, batch, ranks) >= 1


def test_sample_indices_survive_a_queue():
    sample = pickle.loads(pickle.dumps(SampleIndex(5, epoch=2, repeat=1)))
    assert (sample, sample.epoch, sample.repeat) == (5, 2, 1)
