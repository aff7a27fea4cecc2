"""Replayed work gives what the network gives. CUDA graphs are mocks: this machine has no GPU."""

import gc
import threading
import weakref

import pytest
import torch
from mock_cuda import MockCuda
from torch import nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.machine import size_graphs
from pdan_plugin.machine.cuda_graphs import CudaRecorder, recorder_for
from pdan_plugin.machine.size_graphs import SizeGraphs
from pdan_plugin.restoration.inference_network import inference_network

CPU = torch.device('cpu')


class Counted:
    """A function of batches that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, batch):
        self.calls += 1
        return self.function(batch)


def graphs_of(function, cuda=None, **options):
    """The graphs, the counted network, and the notes."""
    network, notes = Counted(function), []
    recorder = options.pop('recorder', None) or CudaRecorder(CPU, cuda or MockCuda())
    return SizeGraphs(network, recorder, note=notes.append, **options), network, notes


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('count', [1, 3])
def test_a_replay_gives_what_the_network_gives(precision, count):
    torch.manual_seed(0)
    network = PDAN(num_feat=16, num_group=2, num_block=1, squeeze_factor=4, fuse_levels=2)
    restore = inference_network(network, CPU, precision=precision)
    cuda = MockCuda()
    graphs, counted, notes = graphs_of(restore, cuda)
    batches = [torch.rand(count, 3, 13, 18) for _ in range(6)]
    results = [graphs(batch) for batch in batches]  # all are kept: each is a tensor of its own
    for batch, result in zip(batches, results, strict=True):
        torch.testing.assert_close(result, restore(batch), rtol=0, atol=1e-6)
    assert (cuda.captures, cuda.replays, graphs.count, graphs.checked, notes) == (1, 4, 1, 1, [])
    assert counted.calls == 2 + 2 + 1  # as always, warm-up and capture, comparison


def test_sizes_that_vary_are_not_recorded_and_each_that_repeats_is():
    cuda = MockCuda()
    graphs, _, _ = graphs_of(nn.Conv2d(3, 3, 3), cuda)
    for side in range(5, 25):
        graphs(torch.rand(1, 3, side, 9))
    assert cuda.captures == graphs.count == 0
    for side in (5, 6, 5, 6, 5, 6):
        graphs(torch.rand(1, 3, side, 9))
    assert cuda.captures == graphs.count == graphs.checked == 2
    graphs(torch.rand(2, 3, 5, 9))  # another batch is another size
    assert cuda.captures == 2


def test_the_number_of_recordings_is_bounded_and_one_that_is_not_used_makes_room(monkeypatch):
    monkeypatch.setattr(size_graphs, '_MOST', 2)
    monkeypatch.setattr(size_graphs, '_IDLE', 5)
    cuda = MockCuda()
    graphs, _, _ = graphs_of(nn.Conv2d(3, 3, 3), cuda)
    for side in [5, 6, 7] * 5:  # all of them come again
        graphs(torch.rand(1, 3, side, 9))
    assert (cuda.captures, graphs.count) == (2, 2)
    for _ in range(6):
        graphs(torch.rand(1, 3, 7, 9))
    assert (cuda.captures, graphs.count) == (3, 2)


def test_what_memory_does_not_allow_is_not_recorded():
    cuda = MockCuda()
    graphs, _, notes = graphs_of(nn.Conv2d(3, 3, 3), cuda, fits=lambda shape: shape[-1] < 9)
    for width in [8, 9] * 3:
        graphs(torch.rand(1, 3, 5, width))
    assert (cuda.captures, graphs.count, notes) == (1, 1, [])


class WrongRecorder:
    """A mock of a device whose recordings forget the input: the second result is that of the first one."""

    forgotten = 0

    def record(self, network, batch):
        first = network(batch)
        return lambda given: first.clone()

    def forget(self):
        self.forgotten += 1


def test_a_replay_that_differs_turns_recording_off_and_the_right_result_is_given():
    recorder = WrongRecorder()
    graphs, _, notes = graphs_of(lambda batch: batch * 2, recorder=recorder)
    for _ in range(5):
        batch = torch.rand(1, 3, 4, 4)
        assert torch.equal(graphs(batch), batch * 2)
    assert graphs.count == 0
    assert recorder.forgotten == 1
    assert notes == [
        'CUDA graphs are off: a replayed result differs from the usual one by more than a quarter of a grey level.'
    ]


@pytest.mark.parametrize(('far', 'agrees'), [(0.2, True), (0.3, False)])
def test_a_quarter_of_a_grey_level_is_the_limit(far, agrees):
    class Rounds(WrongRecorder):
        def record(self, network, batch):
            return lambda given: network(given) + far / 255

    graphs, _, notes = graphs_of(lambda batch: batch.clone(), recorder=Rounds())
    for _ in range(3):
        graphs(torch.rand(1, 3, 4, 4))
    assert graphs.checked == agrees
    assert bool(notes) != agrees


def by_mask(batch):
    result = batch.clone()
    result[batch > 0.5] = 0
    return result


WAITING = {
    'value': (lambda batch: batch * batch.mean().item(), '_local_scalar_dense waits for a value'),
    'branch': (lambda batch: batch + 1 if batch.mean() > 0 else batch, '_local_scalar_dense waits for a value'),
    'mask': (by_mask, 'waits for a value'),
    'pixels': (lambda batch: batch + len(batch.nonzero()), 'nonzero waits for a value'),
    'other device': (lambda batch: batch + batch.to('meta').shape[0], '_to_copy copies between cpu and meta'),
}


@pytest.mark.parametrize('name', WAITING)
def test_a_network_that_waits_for_the_device_is_not_recorded_and_one_note_says_why(name):
    function, reason = WAITING[name]
    cuda = MockCuda()
    graphs, network, notes = graphs_of(function, cuda)
    for _ in range(6):
        batch = torch.rand(1, 3, 4, 4)
        assert torch.equal(graphs(batch), function(batch))
    assert cuda.captures == graphs.count == 0
    assert len(notes) == 1
    assert notes[0].startswith('CUDA graphs are off: the network cannot be recorded (')
    assert reason in notes[0]
    assert network.calls == 7  # nothing is tried again


@pytest.mark.parametrize('where', ['begin', 'inside', 'end'])
def test_a_capture_that_fails_leaves_the_device_as_it_was(where):
    cuda = MockCuda(where)
    graphs, _, notes = graphs_of(nn.Conv2d(3, 3, 3), cuda)
    for _ in range(4):
        batch = torch.rand(1, 3, 5, 5)
        assert torch.equal(graphs(batch), graphs._network.function(batch))
    assert cuda.captures == 1
    assert not cuda.is_capturing
    assert cuda.current is cuda.usual
    reason = 'CUDA error: operation not permitted when capturing'
    assert notes == [f'CUDA graphs are off: the network cannot be recorded ({reason}).']


def test_memory_that_is_short_for_a_recording_costs_no_result():
    cuda = MockCuda('inside', torch.OutOfMemoryError('CUDA out of memory.'))
    graphs, _, notes = graphs_of(nn.Conv2d(3, 3, 3), cuda)
    for _ in range(4):
        graphs(torch.rand(1, 3, 5, 5))
    assert notes == ['CUDA graphs are off: memory is short.']


def test_recordings_are_dropped_when_another_size_needs_their_memory():
    class Full:
        """A mock of a device whose memory holds large pictures only without recordings."""

        def __call__(self, batch):
            if batch.shape[-1] > 8 and graphs.count:
                raise torch.OutOfMemoryError('CUDA out of memory.')
            return batch + 1

    graphs, _, notes = graphs_of(Full())
    for _ in range(4):
        graphs(torch.rand(1, 3, 4, 4))
    assert graphs.count == 1
    large = torch.rand(1, 3, 4, 9)
    assert torch.equal(graphs(large), large + 1)
    assert graphs.count == 0
    assert notes == ['CUDA graphs are off: memory is short.']
    assert not graphs.drop()  # there is nothing more to free


def test_other_errors_of_the_network_reach_the_caller():
    def fail(batch):
        raise RuntimeError('a bug')

    graphs, _, notes = graphs_of(fail)
    with pytest.raises(RuntimeError, match='a bug'):
        graphs(torch.rand(1, 3, 4, 4))
    assert notes == []


class Masked(nn.Module):
    """Keeps a mask for the last size of its input, as networks of windows do."""

    def __init__(self):
        super().__init__()
        self.mask = torch.zeros(0, 0)

    def forward(self, batch):
        if self.mask.shape != batch.shape[-2:]:
            self.mask = torch.ones(batch.shape[-2:]) * 2
        return batch * self.mask


class HoldsNothing(WrongRecorder):
    """A mock of a device: as a CUDA graph, it knows addresses, and keeps no tensor alive."""

    def record(self, network, batch):
        network(batch)
        return network


def test_what_recorded_work_reads_stays_when_the_network_replaces_it():
    network = Masked()
    graphs, _, _ = graphs_of(network, recorder=HoldsNothing())
    for _ in range(2):
        graphs(torch.rand(1, 3, 4, 4))
    mask = weakref.ref(network.mask.untyped_storage())
    graphs(torch.rand(1, 3, 4, 5))
    gc.collect()
    assert mask() is not None
    graphs.drop()
    gc.collect()
    assert mask() is None


def test_threads_take_turns():
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 3, 3)
    graphs, _, _ = graphs_of(convolution)
    wrong = []

    def restore(side):
        for _ in range(30):
            batch = torch.rand(1, 3, side, 7)
            if not torch.allclose(graphs(batch), convolution(batch), atol=1e-6):
                wrong.append(side)

    threads = [threading.Thread(target=restore, args=(side,)) for side in (5, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert graphs.count == graphs.checked == 2


def test_only_cuda_records():
    assert recorder_for(CPU) is None
    assert recorder_for(torch.device('mps')) is None
    assert isinstance(recorder_for(torch.device('cuda')), CudaRecorder) == (torch.version.hip is None)
