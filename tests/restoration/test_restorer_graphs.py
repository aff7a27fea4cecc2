"""A restorer with CUDA graphs restores what one without does. The graphs are mocks: this machine has no GPU."""

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from mock_cuda import MockCuda
from torch import nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.commands import main
from pdan_plugin.machine.cuda_graphs import CudaRecorder
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_writing import write_picture
from pdan_plugin.restoration import inference_network, python_interface
from pdan_plugin.restoration import restorer as restorer_module
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.restoration.several_devices import SeveralDevices

NETWORKS = {
    'pdan': lambda: PDAN(num_feat=8, num_group=2, num_block=1, squeeze_factor=4, fuse_levels=2),
    'edsr': lambda: EDSR(3, 3, num_feat=8, num_block=1, upscale=2),
}


@pytest.fixture
def cuda(monkeypatch):
    """A mock of CUDA graphs that records the work of the CPU."""
    mock = MockCuda()
    monkeypatch.setattr(restorer_module, 'recorder_for', lambda device: CudaRecorder(torch.device('cpu'), mock))
    return mock


def pictures(count, size=(15, 22)):
    return [np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8) for number in range(count)]


def both(name, given, **options):
    """The results with and without graphs, and the restorer with graphs."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    plain = Restorer(network, 'cpu', **options)
    graphed = Restorer(network, 'cpu', cuda_graphs=True, **options)
    return [plain.restore_picture(each) for each in given], [graphed.restore_picture(each) for each in given], graphed


def assert_same(expected, got):
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('pdan', {}),
        ('pdan', {'precision': 'bf16'}),
        ('pdan', {'tile': 'auto'}),
        ('pdan', {'local_pooling': 8}),
        ('pdan', {'self_ensemble': True}),
        ('edsr', {'tile': 14, 'overlap': 4}),
        ('edsr', {'tile': 14, 'overlap': 4, 'self_ensemble': True}),
    ],
)
def test_results_are_those_without_graphs(name, options, cuda):
    expected, got, graphed = both(name, pictures(4), **options)
    assert_same(expected, got)
    assert graphed.graphs.count == graphed.graphs.checked > 0
    assert cuda.replays > graphed.graphs.count
    assert not any('graphs' in note for note in graphed.notes)


def test_tiles_that_share_poolings_run_without_graphs_and_are_right(cuda):
    expected, got, graphed = both('pdan', pictures(2), tile=14, overlap=4)
    assert_same(expected, got)
    assert cuda.captures == 0
    assert graphed.graphs.count == 0


def test_whole_pictures_after_tiles_are_recorded(cuda):
    given = [*pictures(1), *pictures(4, (12, 12))]
    expected, got, graphed = both('pdan', given, tile=14, overlap=4)
    assert_same(expected, got)
    assert graphed.graphs.checked == 1


def test_batches_are_recorded_by_their_number(cuda, monkeypatch):
    monkeypatch.setattr(Restorer, '_parts_at_once', lambda self, height, width: 1 if self._is_alone else 3)
    torch.manual_seed(0)
    network = NETWORKS['pdan']().eval()
    given = pictures(3)
    expected = [Restorer(network, 'cpu').restore_picture(each) for each in given]
    graphed = Restorer(network, 'cpu', cuda_graphs=True)
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 1]):
        together = [wait() for wait in graphed.begin_pictures([given[number] for number in order])]
        for number, result in zip(order, together, strict=True):
            assert np.abs(expected[number].astype(int) - result).max() <= 1
    assert graphed.graphs.checked == 1  # a batch of two came once


def test_several_devices_record_each_for_itself(monkeypatch):
    mocks = []

    def recorder(device):
        mocks.append(MockCuda())
        return CudaRecorder(torch.device('cpu'), mocks[-1])

    monkeypatch.setattr(restorer_module, 'recorder_for', recorder)
    torch.manual_seed(0)
    network = NETWORKS['pdan']().eval()
    given = pictures(6)
    plain = Restorer(network, 'cpu')
    restorers = [Restorer(network, 'cpu', cuda_graphs=True) for _ in range(2)]
    with SeveralDevices(restorers) as several:
        waiting = [several.begin_picture(given[number % 6]) for number in range(12)]
        results = [wait() for wait in waiting]
    assert_same([plain.restore_picture(each) for each in given] * 2, results)
    assert [each.captures for each in mocks] == [each.graphs.count for each in restorers]
    assert sum(each.captures for each in mocks) >= 1


class FullBesideGraphs(nn.Module):
    """A mock of a device: it has memory for tiles only if nothing is recorded."""

    restorer = None

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if self.restorer is not None and x.shape[-1] > 40 and self.restorer.graphs.count:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return x + x.mean((-2, -1), keepdim=True) / 9


def test_memory_of_recordings_is_freed_before_tiles_become_smaller(cuda):
    network = FullBesideGraphs()
    graphed = Restorer(network, 'cpu', tile=56, overlap=8, cuda_graphs=True)
    (large,) = pictures(1, (60, 90))
    expected = graphed.restore_picture(large)
    network.restorer = graphed
    for each in pictures(4, (30, 30)):
        graphed.restore_picture(each)
    assert graphed.graphs.count == 1
    np.testing.assert_array_equal(graphed.restore_picture(large), expected)
    assert graphed.graphs.count == 0
    assert 'CUDA graphs are off: memory is short.' in graphed.notes
    assert not any(note.startswith('Out of memory') for note in graphed.notes)


def test_graphs_are_for_cuda_only_if_asked_for_and_without_compilation(monkeypatch):
    network = NETWORKS['edsr']()
    assert Restorer(network, 'cpu', cuda_graphs=True).graphs is None
    monkeypatch.setattr(restorer_module, 'recorder_for', lambda device: CudaRecorder(device, MockCuda()))
    assert Restorer(network, 'cpu').graphs is None
    assert Restorer(network, 'cpu', cuda_graphs=True).graphs is not None
    monkeypatch.setattr(inference_network, 'compile_in_place', lambda network: None)  # it takes seconds
    assert Restorer(network, 'cpu', cuda_graphs=True, compiled=True).graphs is None


@pytest.mark.parametrize('wanted', [True, False])
def test_the_command_and_the_python_interface_ask_for_graphs_unless_told_otherwise(wanted, tmp_path, cuda):
    for number, each in enumerate(pictures(4, (6, 7))):
        write_picture(tmp_path / f'in/{number}.png', Picture(each))
    words = ['restore', str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '--device', 'cpu', '--precision', 'fp32']
    assert main.main(words + ['--no-cuda-graphs'] * (not wanted)) == 0
    assert cuda.captures == wanted
    restorer = python_interface.Restorer('pdan_small', 'cpu', 'fp32', **({} if wanted else {'cuda_graphs': False}))
    for each in pictures(3, (6, 7)):
        restorer(each)
    assert cuda.captures == 2 * wanted
