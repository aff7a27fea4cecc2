"""Mixed sources: the ratio is exact wherever one looks, on any number of ranks, and after a resume."""

from collections import Counter

import numpy as np
import pytest

from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.data.source_mixing import MixingSampler, whole_weights
from pdan_plugin.errors import RequestError

SIZES = (40, 25, 9)


def samplers(weights, ranks, sizes=SIZES, ratio=5):
    dataset = range(sum(sizes))
    return [
        MixingSampler(dataset, sizes, weights, num_replicas=ranks, rank=rank, ratio=ratio, seed=3)
        for rank in range(ranks)
    ]


def trained_on(weights, ranks, epochs=1, sizes=SIZES):
    """All samples in the order they are trained on, over all ranks."""
    order = []
    each = samplers(weights, ranks, sizes)
    for epoch in range(epochs):
        for sampler in each:
            sampler.set_epoch(epoch)
        order += [sample for step in zip(*each, strict=True) for sample in step]
    return order


def sources_of(order, sizes=SIZES):
    return np.searchsorted(np.cumsum(sizes), [int(sample) for sample in order], side='right')


@pytest.mark.parametrize('ranks', [1, 2, 3, 8])
@pytest.mark.parametrize('weights', [(1, 3, 1), (1, 1, 2), (5, 2, 4)])
def test_the_ratio_holds_at_every_step_of_the_run(weights, ranks):
    sources = sources_of(trained_on(weights, ranks, epochs=3))
    for until in range(ranks, len(sources), ranks):  # after each step of all ranks, also over the ends of epochs
        off = np.bincount(sources[:until], minlength=3) - until * np.asarray(weights) / sum(weights)
        assert np.abs(off).max() <= 1
        if until % sum(weights) == 0:
            assert not off.any()


@pytest.mark.parametrize(
    ('weights', 'ranks'), [((1, 1), 2), ((1, 3), 2), ((1, 7), 4), ((1, 15), 8), ((3, 5), 6), ((2, 1), 3), ((1, 3), 8)]
)
def test_every_rank_sees_the_sources_in_their_ratio(weights, ranks):
    steps = sum(weights) * ranks * 3
    for rank in samplers(weights, ranks, sizes=(steps, steps)):
        counted = Counter(sources_of(list(rank)[:steps], (steps, steps)))
        assert [counted[0], counted[1]] == [weight * steps // sum(weights) for weight in weights]


def test_a_source_gives_every_frame_before_it_gives_one_again():
    order = trained_on((1, 3, 1), 1, epochs=4)
    for source, begin in enumerate((0, 40, 65)):
        mine = [int(sample) for sample, of in zip(order, sources_of(order), strict=True) if of == source]
        size = SIZES[source]
        passes = [mine[first : first + size] for first in range(0, len(mine) - size + 1, size)]
        assert len(passes) > 2
        for one in passes:
            assert sorted(one) == list(range(begin, begin + size))
        assert passes[0] != passes[1]


def test_no_frame_is_drawn_twice_alike():
    order = trained_on((1, 3, 1), 2, epochs=4)
    assert len({(int(sample), sample.epoch, sample.repeat) for sample in order}) == len(order)


def test_a_resume_goes_on_with_what_was_not_used():
    [whole] = samplers((2, 1, 1), 1)
    [resumed] = samplers((2, 1, 1), 1)
    for sampler in (whole, resumed):
        sampler.set_epoch(2)
    resumed.samples_used = {2: 37}
    assert list(resumed) == list(whole)[37:]


def test_what_fills_no_batch_comes_in_the_next_epoch():
    """The loader drops the rest of an epoch; the count of each source goes on with what was trained on."""
    [sampler] = samplers((1, 2, 1), 1)
    sampler.samples_an_epoch = 367  # of 370
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler)[:3] == first[367:]


def test_weights_become_the_smallest_whole_numbers():
    assert whole_weights([0.5, 1.5]) == [1, 3]
    assert whole_weights([24000, 72000]) == [1, 3]
    assert whole_weights([0.1, 0.2, 0.7]) == [1, 2, 7]
    with pytest.raises(ValueError, match='round them'):
        whole_weights([0.123456789, 1])


def test_the_data_set_mixes_by_the_weights_it_is_given(small_reds):
    one = {key: value for key, value in small_reds.options().items() if key.startswith('dataroot')}
    other = {key: value for key, value in small_reds.options('lmdb', 'png').items() if key.startswith('dataroot')}
    options = {key: value for key, value in small_reds.options().items() if not key.startswith('dataroot')}
    mixed = REDSPairedDataset(options | {'sources': [one | {'weight': 1}, other | {'weight': 3}]})
    order = list(mixed.training_sampler(1, 0, 2))
    assert Counter(mixed[sample]['gt_path'].split('/')[-4] for sample in order) == {'bmp': 24, 'png': 72}
    even = REDSPairedDataset(options | {'sources': [one, other]})
    assert Counter(int(sample) for sample in even.training_sampler(1, 0, 2)) == dict.fromkeys(range(48), 2)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ((1, None), 'every source needs a weight'),
        ((1, 'much'), "got 1, 'much'"),
        ((1, 0), 'above zero'),
        ((1, -2), '-2'),
        ((1, float('inf')), 'got 1, inf'),
        (('1', 3), "got '1', 3"),
    ],
)
def test_wrong_weights_are_refused(small_reds, weights, message):
    options = small_reds.options()
    roots = {key: options.pop(key) for key in list(options) if key.startswith('dataroot')}
    with pytest.raises(RequestError, match=message):
        REDSPairedDataset(options | {'sources': [roots | {'weight': weight} for weight in weights]})
