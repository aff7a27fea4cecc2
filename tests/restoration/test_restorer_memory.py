"""A restorer and memory: what runs out makes tiles smaller or ends with an error, and what is allowed is kept to."""

import sys

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from torch import nn
from warm_processes import run_python

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.restoration.restorer import Restorer


def _difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


class _Held:
    """A number of pixels that can be changed after the network has been copied for its use."""

    def __init__(self, value):
        self.value = value

    def __deepcopy__(self, memo):
        return self

    def __lt__(self, pixels):
        return self.value < pixels


class OutOfMemoryAbove(nn.Module):
    """A stand-in for a device: says it is out of memory when a tile has more pixels than it holds."""

    def __init__(self, pixels, error):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.pixels, self.error = pixels, error

    def forward(self, x):
        if x.shape[-2] * x.shape[-1] > self.pixels:
            raise self.error
        return self.conv(x)


@pytest.mark.parametrize(
    'error',
    [
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.'),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
        RuntimeError('GET was unable to find an engine to execute this computation'),
        RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    ],
)
@pytest.mark.parametrize('tile', [None, 'auto'])
def test_running_out_of_memory_makes_tiles_smaller_and_says_so(tile, error, picture):
    network = OutOfMemoryAbove(5000, error)
    restorer = Restorer(network, 'cpu', tile=tile)
    tiles = restorer.restore_picture(picture)
    assert any(note.startswith('Out of memory at') for note in restorer.notes)
    network.pixels = 10**9
    assert _difference(tiles, Restorer(network, 'cpu').restore_picture(picture)) <= 1
    network.pixels, notes = 5000, list(restorer.notes)
    restorer.restore_picture(picture)
    assert restorer.notes == notes  # the next picture begins with what fitted


def test_memory_that_holds_no_tile_is_an_error_and_other_errors_stay(picture):
    network = OutOfMemoryAbove(5000, MemoryError())
    network.pixels = held = _Held(5000)
    restorer = Restorer(network, 'cpu')
    restorer.restore_picture(picture)
    held.value = 0
    with pytest.raises(WorkError, match='out of memory even with tiles'):
        restorer.restore_picture(picture)
    network.error = RuntimeError('a bug')
    with pytest.raises(RuntimeError, match='a bug'):
        Restorer(OutOfMemoryAbove(400, RuntimeError('a bug')), 'cpu').restore_picture(picture)


def test_a_convolution_that_no_tile_helps_is_reported_as_what_it_is(picture):
    network = OutOfMemoryAbove(5000, RuntimeError('FIND was unable to find an engine to execute this computation'))
    network.pixels = held = _Held(5000)
    restorer = Restorer(network, 'cpu')
    restorer.restore_picture(picture)
    held.value = 0
    with pytest.raises(WorkError, match=r'^failed even with tiles .* FIND was unable .* no such convolution in this'):
        restorer.restore_picture(picture)


class FullAtTheGrid(nn.Module):
    """A stand-in for a device: blocks of 32 pixels, and memory for strips of 24 rows, but for no block."""

    def __init__(self, multiple):
        super().__init__()
        self.multiple, self.calls = multiple, 0

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.calls += 1
        assert self.calls < 1000, 'it tries the same tile again and again'
        height, width = x.shape[-2:]
        if height % self.multiple or width % self.multiple:
            raise RuntimeError('no multiple')
        if height * width > 900 and height != 24:
            raise MemoryError
        padded = nn.functional.pad(x, (0, -width % 32, 0, -height % 32), mode='replicate')
        blocks = nn.functional.avg_pool2d(padded, 32)
        return x + nn.functional.interpolate(blocks, scale_factor=32)[..., :height, :width] / 10


@pytest.mark.parametrize('options', [{}, {'tile': 48}, {'tile': 48, 'overlap': 1}])
@pytest.mark.parametrize('multiple', [1, 2])
def test_memory_that_runs_out_at_the_network_s_own_grid_ends_with_an_error(options, multiple, picture):
    """The grid of its blocks, 32, is larger than the multiple that the network accepts."""
    restorer = Restorer(FullAtTheGrid(multiple), 'cpu', **options)
    with pytest.raises(WorkError, match='out of memory even with tiles of 32 pixels'):
        restorer.restore_picture(picture)


@pytest.mark.parametrize(
    ('pixels', 'tile', 'measured'),
    [(100, None, 'the accepted sizes'), (400, None, 'the overlaps of tiles'), (400, 'auto', 'the bytes of a pixel')],
)
def test_memory_that_runs_out_while_something_is_measured_is_an_error(pixels, tile, measured, picture):
    with pytest.raises(WorkError, match=f'out of memory while {measured} were measured'):
        Restorer(OutOfMemoryAbove(pixels, MemoryError()), 'cpu', tile=tile).restore_picture(picture)


def test_allowed_memory_decides_the_tile(picture):
    network = EDSR(3, 3, num_feat=64, num_block=1, upscale=4)
    large = np.tile(picture, (20, 20, 1))
    restorer = Restorer(network, 'cpu', tile='auto', memory=2**50)
    assert restorer._tiles.layout(1420, 1900, 0).count == 1
    counts = []
    for mebibytes in (200, 400, 800):
        restorer = Restorer(network, 'cpu', tile='auto', memory=2**50)
        restorer._budget._allowed = restorer._budget._held + mebibytes * 2**20
        counts.append(restorer._tiles.layout(*large.shape[:2], 0).count)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2] > 1
    with pytest.raises(RequestError, match='memory: a tile of'):
        Restorer(network, 'cpu', tile='auto', memory=2**20).restore_picture(picture)


FLAT = """
import sys, numpy as np, torch, pdan_plugin
from torch import nn
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.machine.memory import held_memory, peak_memory
torch.set_num_threads(1)
network = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 3, 3, padding=1))
restorer = Restorer(network, 'cpu', tile=256)
height, width = map(int, sys.argv[1:])
picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
before = held_memory(torch.device('cpu'))
result = restorer.restore_picture(picture)
print(peak_memory().size - before - result.nbytes)
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the peak of resident memory is read from Linux')
def test_memory_is_as_flat_for_2160p_as_for_a_single_tile(tmp_path):
    beyond = []
    for size in ((256, 320), (2160, 1280)):
        done = run_python('-c', FLAT, *size, cwd=tmp_path)
        beyond.append(int(done.stdout))
    # the features of the whole picture would be 250 MiB
    assert beyond[1] - beyond[0] < 40 * 2**20
