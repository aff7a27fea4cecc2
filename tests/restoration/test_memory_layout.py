"""The faster memory layout is tried once and used; results are the same. The times are mocks."""

import numpy as np
import pytest
import torch
from torch import nn

from pdan_plugin.machine.algorithm_search import searching_algorithms
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_writing import write_picture
from pdan_plugin.restoration import measured_network, memory_layout
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.memory_layout import layouts_differ
from pdan_plugin.restoration.picture_jobs import PictureJobs
from pdan_plugin.restoration.restorer import Restorer


class Layouts(nn.Module):
    """Records the layouts of its input and weights, and whether cuDNN would search."""

    def __init__(self, features=4):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, features, 3, padding=1), nn.Conv2d(features, 3, 3, padding=1)
        self.seen = []

    def __deepcopy__(self, memo):
        copied = Layouts(self.first.out_channels)
        copied.load_state_dict(self.state_dict())
        copied.seen = self.seen
        return copied

    def forward(self, x):
        last = [each.is_contiguous(memory_format=torch.channels_last) for each in (x, self.first.weight)]
        self.seen.append((*last, torch.backends.cudnn.benchmark))
        return self.last(self.first(x))


@pytest.fixture
def times(monkeypatch):
    """times(channels-last, contiguous): seconds of a mock device. Returns the list of trials."""
    trials = []
    monkeypatch.setattr(memory_layout, '_chosen', {})
    monkeypatch.setattr(measured_network, 'layouts_differ', lambda device, precision, compiled: precision == 'fp32')

    def set_times(*seconds):
        def seconds_of(calls, device):
            trials.append([call().shape for call in calls.values()])
            if isinstance(seconds[0], Exception):
                raise seconds[0]
            return dict(zip(calls, seconds, strict=True))

        monkeypatch.setattr(memory_layout, 'seconds_of', seconds_of)
        return trials

    return set_times


@pytest.mark.parametrize(('seconds', 'channels_last'), [((2.0, 1.0), False), ((1.0, 2.0), True)])
def test_the_faster_layout_is_used_and_tried_once_for_a_network(seconds, channels_last, times):
    trials = times(*seconds)
    torch.manual_seed(0)
    network = Layouts()
    picture = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    plain = Restorer(network, 'cpu', precision='bf16')  # as always
    assert len(trials) == 0
    for _ in range(2):
        restorer = Restorer(network, 'cpu')
        network.seen.clear()
        result = restorer.restore_picture(picture)
        assert {each[:2] for each in network.seen} == {(channels_last, channels_last)}
        assert np.abs(result.astype(int) - plain.restore_picture(picture)).max() <= 2
    assert len(trials) == 1
    assert trials[0] == [(1, 3, 128, 128)] * 2
    Restorer(Layouts(8), 'cpu')  # another network is tried for itself
    assert len(trials) == 2


def test_memory_that_is_too_short_for_the_trial_leaves_the_usual_layout(times):
    trials = times(torch.OutOfMemoryError('CUDA out of memory.'))
    network = Layouts()
    Restorer(network, 'cpu').restore_picture(np.zeros((6, 5, 3), np.uint8))
    assert network.seen[-1][0]
    assert len(trials) == 1
    times(RuntimeError('a bug'))
    with pytest.raises(RuntimeError, match='a bug'):
        Restorer(Layouts(8), 'cpu')


def test_layouts_are_tried_on_cuda_in_float32_alone():
    cuda, cpu = torch.device('cuda'), torch.device('cpu')
    assert layouts_differ(cuda, 'fp32', compiled=False)
    assert not layouts_differ(cuda, 'bf16', compiled=False)
    assert not layouts_differ(cuda, 'fp32', compiled=True)
    assert not layouts_differ(cpu, 'fp32', compiled=False)


@pytest.mark.parametrize(('sides', 'expected'), [([6] * 9, True), (range(4, 13), False)])
def test_cudnn_searches_in_a_folder_of_one_size_and_not_where_sizes_vary(sides, expected, tmp_path):
    for number, side in enumerate(sides):
        write_picture(tmp_path / f'in/{number}.png', Picture(np.zeros((side, 7, 3), np.uint8)))
    network = Layouts()
    restorer = Restorer(network, 'cpu')
    network.seen.clear()
    with searching_algorithms(not expected):  # as a program may have set it
        done = list(PictureJobs(restorer).run(make_plan(tmp_path / 'in', tmp_path / 'out').jobs))
        assert torch.backends.cudnn.benchmark is not expected
    assert [error for _, error in done] == [None] * len(sides)
    assert {each[2] for each in network.seen} == {expected}


@pytest.mark.parametrize(('tile', 'expected'), [(8, {True}), (24, {False})])
def test_cudnn_searches_for_many_tiles(tile, expected):
    network = Layouts()
    restorer = Restorer(network, 'cpu', tile=tile, overlap=2)
    picture = np.zeros((30, 40, 3), np.uint8)
    with searching_algorithms(False):
        restorer.restore_picture(picture)  # measures the grid of the tiles, too
        network.seen.clear()
        restorer.restore_picture(picture)
    assert {each[2] for each in network.seen} == expected
