"""A restorer with tiles gives what it gives without, for every kind of network; and stays within memory."""

import sys

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.swinir_arch import SwinIR
from skimage import data
from torch import nn
from torch.nn import functional as F
from warm_processes import run_python

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.working_memory import WorkingMemory
from pdan_plugin.restoration import tile_runs
from pdan_plugin.restoration.restorer import Restorer

GREY_LEVEL = 1 / 255


def _with_strong_gates(network, words=('channel_gate', 'attention')):
    """Gates of random networks are all near a half; these differ from tile to tile."""
    for name, value in network.named_parameters():
        if any(word in name for word in words):
            value.data *= 5
        elif name.startswith('body'):
            value.data *= 1.5
    return network


class Deblurring(nn.Module):
    """Scale 1, with two strided levels, and the picture continued inside to a multiple of four, as UNets do."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=4)
        self.up = nn.ConvTranspose2d(8, 3, 4, stride=4)

    def forward(self, x):
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 4, 0, -height % 4))
        return x + self.up(torch.relu(self.down(padded)))[..., :height, :width]


NETWORKS = {
    'pdan': lambda: _with_strong_gates(PDAN(num_feat=8, num_group=2, num_block=2, squeeze_factor=4, fuse_levels=2)),
    'rcan': lambda: _with_strong_gates(RCAN(3, 3, num_feat=8, num_group=2, num_block=2, squeeze_factor=4, upscale=2)),
    'edsr': lambda: EDSR(3, 3, num_feat=8, num_block=2, upscale=3),
    'srresnet': lambda: MSRResNet(3, 3, num_feat=8, num_block=2, upscale=4),
    'scale 1': Deblurring,
    'windows': lambda: SwinIR(
        img_size=16, window_size=8, embed_dim=12, depths=(2,), num_heads=(2,), upscale=2,
        upsampler='pixelshuffledirect',
    ),
}  # fmt: skip


@pytest.fixture(scope='module')
def picture():
    """A face and a rocket on the dark half of a sky, at a size that no tile divides: (71, 95, 3)."""
    faces, sky = data.astronaut()[60:131, 160:207], data.rocket()[20:91, 300:348]
    return np.concatenate([faces, sky], axis=1)


def _difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


@pytest.mark.parametrize('name', NETWORKS)
def test_tiles_equal_the_whole_to_within_a_grey_level(name, picture):
    network = NETWORKS[name]()
    told = []
    whole = Restorer(network, 'cpu').restore_picture(picture)
    restorer = Restorer(network, 'cpu', tile=48)
    tiles = restorer.restore_picture(picture, lambda *numbers: told.append(numbers))
    assert whole.shape == (71 * restorer.scale, 95 * restorer.scale, 3)
    assert whole.dtype == np.uint8
    assert whole.std() > 2
    assert _difference(whole, tiles) <= 1
    assert len(told) >= 6
    assert told[-1] == (len(told), len(told))
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    assert (Restorer(network, 'cpu')(batch) - restorer(batch)).abs().max() <= GREY_LEVEL


@pytest.mark.parametrize('name', ['pdan', 'rcan'])
def test_tiles_that_do_not_share_their_means_would_show(name, picture, monkeypatch):
    network = NETWORKS[name]()
    whole = Restorer(network, 'cpu').restore_picture(picture)
    restorer = Restorer(network, 'cpu', tile=48)
    monkeypatch.setattr(tile_runs.TileRuns, '__init__', _without_sharing(tile_runs.TileRuns.__init__))
    assert _difference(whole, restorer.restore_picture(picture)) > 2


def _without_sharing(construct):
    return lambda self, restore, forms, global_poolings, at_once: construct(self, restore, forms, 0, at_once)


@pytest.mark.parametrize('name', ['pdan', 'edsr'])
def test_tiles_and_self_ensemble_go_together(name, picture):
    network = NETWORKS[name]()
    whole = Restorer(network, 'cpu', self_ensemble=True).restore_picture(picture)
    assert _difference(whole, Restorer(network, 'cpu').restore_picture(picture)) > 0
    assert _difference(whole, Restorer(network, 'cpu', tile=56, self_ensemble=True).restore_picture(picture)) <= 1


def test_half_black_half_noise_has_no_seams():
    picture = np.zeros((60, 97, 3), np.uint8)
    picture[:, 48:] = np.random.default_rng(0).integers(0, 256, (60, 49, 3))
    network = NETWORKS['rcan']()
    whole = Restorer(network, 'cpu').restore_picture(picture)
    assert _difference(whole, Restorer(network, 'cpu', tile=48).restore_picture(picture)) <= 1


def test_pictures_in_16_bit_and_rounding_as_the_toolbox_does(picture):
    class Half(nn.Module):
        def forward(self, x):
            return x / 2

    restored = Restorer(Half(), 'cpu').restore_picture(picture)
    np.testing.assert_array_equal(restored, (picture.astype(np.float32) / 255 / 2 * 255).round().astype(np.uint8))
    fine = picture.astype(np.uint16) * 257
    restored = Restorer(Half(), 'cpu', tile=40).restore_picture(fine)
    assert restored.dtype == np.uint16
    assert restored.max() > 255
    assert _difference(restored, fine / 2) <= 1


def test_a_single_pixel_goes_through_networks_that_need_windows(picture):
    for name in ('windows', 'pdan', 'scale 1'):
        restorer = Restorer(NETWORKS[name](), 'cpu', tile='auto')
        assert restorer.restore_picture(picture[:1, :1]).shape == (restorer.scale, restorer.scale, 3)


def test_bfloat16_tiles_equal_the_bfloat16_whole(picture):
    network = NETWORKS['pdan']()
    whole = Restorer(network, 'cpu', precision='bf16').restore_picture(picture)
    tiles = Restorer(network, 'cpu', precision='bf16', tile=48).restore_picture(picture)
    difference = np.abs(whole.astype(int) - tiles)
    assert np.mean(difference <= 1) > 0.999
    assert difference.max() <= 3


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


class Batches(nn.Module):
    """A network that records the sizes of its batches, and is out of memory above some pictures."""

    def __init__(self, most=99):
        super().__init__()
        self.conv, self.most, self.sizes = nn.Conv2d(3, 3, 3, padding=1), most, []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return self.conv(x)


@pytest.fixture
def at_once(monkeypatch):
    """A mock of a GPU, where four parts form a batch unless memory ran out: a CPU gets one at a time."""
    monkeypatch.setattr(Restorer, '_parts_at_once', lambda self, height, width: 1 if self._is_alone else 4)


def test_pictures_in_a_batch_are_those_restored_alone(picture, at_once):
    network = Batches()
    restorer = Restorer(network, 'cpu')
    assert restorer.pictures_at_once(*picture.shape[:2]) == 4
    assert Restorer(network, 'cpu', tile=40).pictures_at_once(*picture.shape[:2]) == 1
    pictures = [picture, np.ascontiguousarray(picture[::-1]), 255 - picture]
    network.sizes.clear()
    together = [wait() for wait in restorer.begin_pictures(pictures)]
    assert network.sizes == [3]
    for each, result in zip(pictures, together, strict=True):
        assert _difference(result, restorer.restore_picture(each)) <= 1
    network.most = 2
    again = [wait() for wait in restorer.begin_pictures(pictures)]
    assert all(_difference(*pair) <= 1 for pair in zip(together, again, strict=True))
    assert restorer.notes == ['Out of memory with 3 pictures at once; continued one by one.']
    assert restorer.pictures_at_once(*picture.shape[:2]) == 1


def test_the_forms_of_a_self_ensemble_in_batches_are_those_one_by_one(picture, monkeypatch):
    network = Batches()
    alone = Restorer(network, 'cpu', self_ensemble=True).restore_picture(picture)
    monkeypatch.setattr(Restorer, '_parts_at_once', lambda self, height, width: 1 if self._is_alone else 4)
    restorer = Restorer(network, 'cpu', self_ensemble=True)
    network.sizes.clear()
    assert _difference(alone, restorer.restore_picture(picture)) <= 1
    assert network.sizes == [4, 4]
    network.most = 1
    assert _difference(alone, restorer.restore_picture(picture)) <= 1
    assert restorer.notes == ['Out of memory with 8 pictures at once; continued one by one.']


def test_a_cpu_gets_one_picture_at_a_time_and_a_gpu_as_many_as_its_memory_allows(monkeypatch):
    """The memory of the GPU is a mock."""
    restorer = Restorer(Batches(), 'cpu', tile='auto')
    assert restorer.pictures_at_once(180, 320) == 1
    restorer.device = torch.device('xpu')
    budget = restorer._budget
    budget._working, budget._free, budget._beside = WorkingMemory(0, 1000), 1e9, 0
    assert restorer.pictures_at_once(180, 320) == 4  # enough work for a GPU
    assert restorer.pictures_at_once(720, 1280) == 1
    budget._free = 2.5 * 180 * 320 * 1000
    assert restorer.pictures_at_once(180, 320) == 2


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


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'tile': 0}, "tile: expected a number of pixels of at least 1, or 'auto'"),
        ({'tile': 'all'}, 'tile: expected'),
        ({'overlap': -1}, 'overlap: expected'),
        ({'tile': 32, 'overlap': 30}, 'tile: 32 leaves no room for an overlap of 30'),
        ({'memory': 10**9}, "memory: has an effect only with tile: 'auto'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(RequestError, match=message):
        Restorer(NETWORKS['edsr'](), 'cpu', **options)


def test_pictures_and_networks_that_do_not_fit_are_refused(picture):
    restorer = Restorer(NETWORKS['edsr'](), 'cpu')
    with pytest.raises(RequestError, match=r'expected a picture \(h, w, 3\), got \(71, 95, 1\)'):
        restorer.restore_picture(picture[..., :1])
    with pytest.raises(RequestError, match='uint8 or uint16, got float32'):
        restorer.restore_picture(picture.astype(np.float32))
    with pytest.raises(RequestError, match=r'expected a batch \(b, 3, h, w\)'):
        restorer(torch.rand(1, 4, 8, 8))
    with pytest.raises(RequestError, match='Linear failed on every size tried'):
        Restorer(nn.Linear(5, 5), 'cpu')


class Reflecting(nn.Module):
    """A blur that extends its input by reflection, which takes at least one pixel more than the border."""

    def __init__(self, border, multiple=1):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)  # for the number of channels
        self.border, self.multiple, self.sizes = border, multiple, []

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError('not a multiple')
        self.sizes.append(tuple(x.shape[-2:]))
        extended = F.pad(x, [self.border] * 4, mode='reflect')
        return F.avg_pool2d(extended, 2 * self.border + 1, stride=1) + 0 * self.conv(x)


def _continued(picture, height, width):
    """By reflection, as often as needed, with the edge not repeated."""
    rows, columns = (np.pad(np.arange(have), (0, want - have), mode='reflect') for have, want in
                     zip(picture.shape[:2], (height, width), strict=True))  # fmt: skip
    return np.ascontiguousarray(picture[rows][:, columns])


@pytest.mark.parametrize(('multiple', 'least'), [(1, 10), (4, 12)])
@pytest.mark.parametrize('size', [(5, 40), (40, 3), (2, 2), (9, 9)])
def test_a_picture_below_the_least_size_of_the_network_is_extended(multiple, least, size, picture):
    """It failed in torch's words, which name the padding and neither size."""
    restorer = Restorer(Reflecting(9, multiple), 'cpu')
    small = np.ascontiguousarray(picture[: size[0], : size[1]])
    whole = _continued(small, *(max(-(-side // multiple) * multiple, least) for side in size))
    expected = restorer.restore_picture(whole)[: size[0], : size[1]]
    for fresh in (restorer, Restorer(Reflecting(9, multiple), 'cpu')):
        np.testing.assert_array_equal(fresh.restore_picture(small), expected)
    batch = torch.from_numpy(small / np.float32(255)).permute(2, 0, 1)[None]
    found = Restorer(Reflecting(9, multiple), 'cpu')(batch).clamp(0, 1).mul(255).round()
    np.testing.assert_array_equal(found[0].permute(1, 2, 0).numpy().astype(np.uint8), expected)


def test_pictures_in_a_batch_below_the_least_size_are_extended(picture, at_once):
    small = [np.ascontiguousarray(picture[top : top + 6, :7]) for top in (0, 9)]
    together = [wait() for wait in Restorer(Reflecting(9), 'cpu').begin_pictures(small)]
    for each, result in zip(small, together, strict=True):
        np.testing.assert_array_equal(result, Restorer(Reflecting(9), 'cpu').restore_picture(each))


def test_a_picture_that_the_network_accepts_is_not_extended(picture):
    """Nor is anything measured for it."""
    network = Reflecting(3)
    restorer = Restorer(network, 'cpu')
    network.sizes.clear()
    restorer.restore_picture(np.ascontiguousarray(picture[:4, :5]))
    assert network.sizes == [(4, 5)]


def test_tiles_below_the_least_size_of_the_network_are_refused_with_one_that_suffices(picture):
    with pytest.raises(RequestError, match=r'takes no tiles of \d+ pixels .*expected tiles of at least 20, or whole'):
        Restorer(Reflecting(9), 'cpu', tile=8, overlap=2).restore_picture(picture)
    Restorer(Reflecting(9), 'cpu', tile=20, overlap=2).restore_picture(picture)
