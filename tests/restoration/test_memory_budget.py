"""The estimate of the memory that a picture takes is neither too little nor much too much."""

import sys

import pytest
import torch
from torch import nn
from warm_processes import run_python

from pdan_plugin.archs import pdan_arch
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.working_memory import WorkingMemory
from pdan_plugin.restoration.memory_budget import MemoryBudget
from pdan_plugin.restoration.restorer import Restorer

PEAK = """
import ctypes, gc, sys, numpy as np, torch, pdan_plugin
from pdan_plugin import load_network
from pdan_plugin.archs import pdan_arch
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.machine.memory import process_memory
from pdan_plugin.restoration.restorer import Restorer
torch.set_num_threads(1)
torch.manual_seed(0)
library = ctypes.CDLL(None)
if hasattr(library, 'mallopt') and sys.argv[5] == 'returns every block':  # glibc
    assert library.mallopt(-3, 2**17)  # M_MMAP_THRESHOLD; before the network, whose making leaves gaps in the heap
name, precision, height, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if name == 'pdan_small':
    network = load_network('pdan_small')
elif name == 'full PDAN':
    network = PDAN()
elif name == 'RCAN':
    from basicsr.archs.rcan_arch import RCAN
    network = RCAN(3, 3, num_feat=64, num_group=2, num_block=2, upscale=4)
else:
    from basicsr.archs.swinir_arch import SwinIR
    network = SwinIR(img_size=48, window_size=8, depths=[2, 2], embed_dim=60, num_heads=[6, 6], mlp_ratio=2, upscale=4,
                     upsampler='pixelshuffledirect')
restorer = Restorer(network, 'cpu', precision=precision, tile='auto', memory=2**50)
picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
estimate = restorer.memory_needed(height, width)
if sys.argv[5] == 'heap':
    restorer.restore_picture(picture[:32, :32])  # a picture of the full size would leave its own gaps
else:
    restorer.restore_picture(picture)  # reads the parts of libraries that the work needs
gc.collect()
if hasattr(library, 'malloc_trim'):
    library.malloc_trim(0)  # else what was freed before is used again, and not counted
open('/proc/self/clear_refs', 'w').write('5')
before, files = process_memory('VmRSS'), process_memory('RssFile')
result = restorer.restore_picture(picture)
read = max(0, process_memory('RssFile') - files)  # parts of libraries, which the system reads and drops as it likes
print(estimate / (process_memory('VmHWM') - before - read - result.nbytes))
"""


NETWORKS = [
    ('pdan_small', 'fp32', (100, 160)),
    ('pdan_small', 'fp32', (180, 320)),
    ('pdan_small', 'fp32', (360, 640)),
    ('pdan_small', 'bf16', (180, 320)),
    ('RCAN', 'fp32', (180, 320)),
    ('SwinIR', 'fp32', (128, 192)),
]
FULL = ('full PDAN', 'fp32', (96, 128))  # not in bf16, which a processor without its instructions computes for minutes


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the peak of resident memory is read from Linux')
@pytest.mark.parametrize(('name', 'precision', 'size'), [*NETWORKS, FULL])
def test_the_estimate_suffices_and_is_less_than_twice_the_truth(name, precision, size, tmp_path):
    """Blocks that the allocator returns at once show what the work needs."""
    done = run_python('-c', PEAK, name, precision, *size, 'returns every block', cwd=tmp_path)
    assert 0.95 <= float(done.stdout) <= 1.9, done.stdout


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the peak of resident memory is read from Linux')
@pytest.mark.parametrize(('name', 'precision', 'size'), NETWORKS)
def test_the_estimate_suffices_in_a_heap_with_gaps(name, precision, size, tmp_path):
    """glibc's heap loses memory to gaps, more or less by chance and differently on each machine.

    Not with the full PDAN: making its weights leaves gaps of 200 MB, more than its work on a small picture needs.
    """
    done = run_python('-c', PEAK, name, precision, *size, 'heap', cwd=tmp_path)
    assert 0.95 <= float(done.stdout) <= 9, done.stdout


class Squares:
    """A mock of a device's measurement: a network with a fixed part, which has memory for some squares only."""

    def __init__(self, most=10**9, simulates=True):
        self.most, self.simulates, self.measured = most, simulates, []

    def __call__(self, sides, simulated):
        self.measured.append((*sides, simulated))
        if simulated and not self.simulates:
            raise TypeError('needs values')
        if sides[-1] > self.most:
            raise WorkError('out of memory')
        if len(sides) == 1:
            return WorkingMemory(0.0, 10_000.0)
        return WorkingMemory(1e8, 1000.0, least=1e8 + 1000 * sides[0] ** 2)


def budget(squares, allowed, device='cpu'):
    made = MemoryBudget(torch.device(device), None, squares, of_result=0, has_forms=False)
    made.working  # noqa: B018 - measures
    made._free = made._with_gaps(allowed)
    return made


def test_a_cpu_measures_a_small_square_and_larger_ones_only_for_a_picture_that_would_not_fit():
    squares = Squares()
    roomy = budget(squares, 1e10)
    assert roomy.fits(10**6, 0)
    assert squares.measured == [(48, False)]
    short = budget(squares, 2e9)
    squares.measured.clear()
    assert short.fits(10**6, 0)  # 10 GB by the small square, 1.1 GB in truth
    assert squares.measured == [(500, 1000, True)]
    assert not short.fits(3 * 10**6, 0)
    assert short.side(0) == int((1.9e9 / 1000) ** 0.5)
    assert len(squares.measured) == 1


def test_a_network_that_cannot_be_simulated_is_computed_on_small_squares():
    squares = Squares(simulates=False)
    short = budget(squares, 2e9)
    assert short.fits(10**6, 0)
    assert squares.measured == [(48, False), (500, 1000, True), (48, 96, False)]


def test_a_gpu_measures_smaller_squares_when_memory_runs_out(monkeypatch):
    """The GPU is a mock."""
    monkeypatch.setattr('pdan_plugin.restoration.memory_budget.free_cached_memory', lambda device: None)
    monkeypatch.setattr('pdan_plugin.restoration.memory_budget.free_memory', lambda device: 0)
    monkeypatch.setattr('pdan_plugin.restoration.memory_budget.held_memory', lambda device: 0)
    squares = Squares(most=300)
    card = budget(squares, 1e9, 'cuda')
    assert squares.measured == [(96, 192, False)]
    squares.measured.clear()
    assert not card.fits(2 * 10**6, 0)
    assert squares.measured == [(512, 1024, False), (256, 512, False), (128, 256, False)]
    squares = Squares(most=100)
    budget(squares, 1e9, 'cuda')
    assert squares.measured == [(96, 192, False), (48, False)]


def test_a_tile_that_does_not_fit_is_refused_with_the_figures():
    with pytest.raises(RequestError, match=r'memory: a tile of 64 pixels needs .* can be taken'):
        budget(Squares(), 1e6).require(64, 0)
    budget(Squares(), 1e8).require(64, 0)


class Remembers(nn.Module):
    """Keeps a tensor of its last input, as networks with a mean or a mask do."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.last = torch.zeros(1)

    def forward(self, x):
        self.last = x.mean((-2, -1), keepdim=True)
        return self.convolution(x) + self.last


def test_simulating_leaves_nothing_in_the_network():
    network = Remembers()
    restorer = Restorer(network, 'cpu', tile='auto', memory=2**50)
    restorer.memory_needed(300, 300)
    assert type(network.last) is torch.Tensor
    picture = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        torch.testing.assert_close(restorer(picture), network(picture))


def test_a_pdan_that_computes_its_tail_in_bands_needs_far_less_than_in_proportion(monkeypatch):
    monkeypatch.setattr(pdan_arch, 'pays_as_one_convolution', lambda features: False)  # as on a GPU
    network = PDAN(num_feat=32, num_group=1, num_block=1, fuse_levels=1)
    restorer = Restorer(network, 'cpu', tile='auto', memory=2**50)
    quick = restorer._budget.working.needed(720 * 1280)
    assert restorer.memory_needed(720, 1280) < quick / 3


@pytest.mark.parametrize('size', [1e3, 1e7, 2.4e8, 2.5e8, 2.6e8, 1e10])
def test_gaps_take_a_share_of_the_work_and_no_more_than_48_mib(size):
    made = budget(Squares(), 1e10)
    tensors = made._without_gaps(size)
    assert made._with_gaps(tensors) == pytest.approx(size)
    assert size - tensors == pytest.approx(min(size / 5, 48 * 2**20))
