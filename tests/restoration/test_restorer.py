"""A restorer with tiles gives what it gives without, for every kind of network."""

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.archs.swinir_arch import SwinIR
from torch import nn
from torch.nn import functional as F

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError
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
