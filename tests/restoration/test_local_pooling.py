"""Poolings over the whole picture become poolings over windows, for any network that has some, also in tiles."""

import numpy as np
import pytest
import torch
from basicsr.archs.edsr_arch import EDSR
from basicsr.archs.rcan_arch import RCAN
from skimage import data
from torch import nn
from torch.nn import functional as F

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.local_pooling import LocalPooling
from pdan_plugin.restoration.restorer import Restorer


@pytest.fixture(scope='module')
def picture():
    """A face beside the dark half of a sky: (83, 121, 3)."""
    faces, sky = data.astronaut()[60:143, 150:211], data.rocket()[20:103, 300:360]
    return np.concatenate([faces, sky], axis=1)


def window_means(x, side):
    """Independently: means over windows, which border pixels share (TLC's replicated border)."""
    rows, columns = (min(side, length) for length in x.shape[-2:])
    inner = F.avg_pool2d(x, (rows, columns), stride=1)
    across, down = x.shape[-1] - inner.shape[-1], x.shape[-2] - inner.shape[-2]
    return F.pad(inner, (across // 2, (across + 1) // 2, down // 2, (down + 1) // 2), mode='replicate')


class Gated(nn.Module):
    """The picture times gates from its poolings."""

    def __init__(self, gates):
        super().__init__()
        self.gates = gates

    def forward(self, x):
        return x * self.gates(x)


class ByConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.ReLU(True), nn.Conv2d(2, 3, 1))

    def forward(self, x):
        return self.layers(x)

    def after_pooling(self, means):
        return self.layers[1:](means)


class ByLinear(nn.Module):
    """Squeeze and excitation as it was first written: the pooled value is flattened."""

    def __init__(self, *, keeps_axes=True):
        super().__init__()
        self.layers, self.keeps_axes = nn.Sequential(nn.Linear(3, 2), nn.ReLU(True), nn.Linear(2, 3)), keeps_axes

    def forward(self, x):
        b, c = x.shape[:2]
        pooled = F.adaptive_avg_pool2d(x, 1).view(b, c) if self.keeps_axes else x.mean((2, 3))
        return torch.sigmoid(self.layers(pooled)).view(b, c, 1, 1)

    def after_pooling(self, means):
        return torch.sigmoid(self.layers(means.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class ByNeighbours(nn.Module):
    """ECA: a convolution along the channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, x):
        y = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return torch.sigmoid(self.conv(y)).transpose(-1, -2).unsqueeze(-1).expand_as(x)

    def after_pooling(self, means):
        b, c, h, w = means.shape
        pixels = means.permute(0, 2, 3, 1).reshape(-1, 1, c)
        return torch.sigmoid(self.conv(pixels)).view(b, h, w, c).permute(0, 3, 1, 2)


class BySpreading(nn.Module):
    """As in pyramid pooling: the mean is enlarged to the map."""

    def forward(self, x):
        return F.interpolate(x.mean((2, 3), keepdim=True), size=x.shape[-2:], mode='bilinear')

    def after_pooling(self, means):
        return means


class ByMixing(nn.Module):
    """A 3x3 convolution of the pooled pixel, whose neighbours are zeros; of a map it would mix pixels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x.mean((2, 3), keepdim=True))

    def after_pooling(self, means):
        return F.conv2d(means, self.conv.weight[..., 1:2, 1:2], self.conv.bias)


KINDS = {
    'convolution': ByConvolution,
    'linear': ByLinear,
    'linear without axes': lambda: ByLinear(keeps_axes=False),
    'neighbours': ByNeighbours,
    'spreading': BySpreading,
    'mixing': ByMixing,
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('side', [7, 16, 50])
def test_every_pixel_gets_what_the_pooled_layers_make_of_its_window(kind, side):
    gates = KINDS[kind]()
    x = torch.rand(2, 3, 40, 57)
    with torch.no_grad():
        local = LocalPooling(Gated(gates), side, channels=3, multiple=1)
        assert (local.count, local.left) == (1, 0)
        found = local.wrapped()(x)
        expected = x * gates.after_pooling(window_means(x, side))
        assert not torch.allclose(found, Gated(gates)(x), atol=1e-4)  # the global pooling
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_a_window_larger_than_the_picture_is_the_global_pooling():
    x = torch.rand(1, 3, 30, 41)
    for make in KINDS.values():
        network = Gated(make())
        with torch.no_grad():
            found = LocalPooling(network, 41, channels=3, multiple=1).wrapped()(x)
            torch.testing.assert_close(found, network(x), atol=1e-6, rtol=1e-6)


def test_the_maximum_and_several_poolings_together():
    """Weights for two branches, from the mean and the maximum: their softmax, as in selective kernels."""

    class Selective(nn.Module):
        def forward(self, x):
            pooled = torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], dim=1)
            weights = pooled.view(x.shape[0], 2, 3, 1, 1).softmax(dim=1)
            return (torch.stack([x, 1 - x], dim=1) * weights).sum(dim=1)

    x = torch.rand(1, 3, 24, 33)
    local = LocalPooling(Selective(), 8, channels=3, multiple=1)
    assert (local.count, local.left) == (2, 0)
    padded = F.pad(F.max_pool2d(x, 8, stride=1), (3, 4, 3, 4), mode='replicate')
    weights = torch.stack([window_means(x, 8), padded], dim=1).softmax(dim=1)
    expected = (torch.stack([x, 1 - x], dim=1) * weights).sum(dim=1)
    torch.testing.assert_close(local.wrapped()(x), expected, atol=1e-6, rtol=1e-5)


def test_windows_on_a_smaller_map_cover_the_same_part_of_the_picture():
    class AtHalfTheSize(nn.Module):
        def forward(self, x):
            half = F.avg_pool2d(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode='replicate'), 2)
            gate = F.interpolate((half - half.mean((2, 3), keepdim=True)), scale_factor=2)
            return x + gate[..., : x.shape[-2], : x.shape[-1]]

    for height, width in ((40, 56), (41, 57)):
        x = torch.rand(1, 3, height, width)
        found = LocalPooling(AtHalfTheSize(), 16, channels=3, multiple=1).wrapped()(x)
        half = F.avg_pool2d(F.pad(x, (0, width % 2, 0, height % 2), mode='replicate'), 2)
        gate = F.interpolate(half - window_means(half, 8), scale_factor=2)[..., :height, :width]
        torch.testing.assert_close(found, x + gate, atol=1e-6, rtol=1e-5)


def test_a_pooling_that_feeds_the_whole_picture_s_layers_stays_global_and_is_reported(picture):
    class Mixed(nn.Module):
        def forward(self, x):
            level = float(x.mean((2, 3)).sum())  # a number of Python
            return x * F.adaptive_avg_pool2d(x, 1) + level / 100

    restorer = Restorer(Mixed(), 'cpu', local_pooling=24)
    assert restorer.notes == ['1 of the 2 poolings of Mixed stay global: their layers take no map.']
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    expected = x * window_means(x, 24) + float(x.mean((2, 3)).sum()) / 100
    torch.testing.assert_close(restorer(x), expected, atol=1e-5, rtol=1e-5)
    whole = restorer.restore_picture(picture)
    tiles = Restorer(Mixed(), 'cpu', local_pooling=24, tile=56).restore_picture(picture)
    assert np.abs(whole.astype(int) - tiles).max() <= 1


def test_a_network_without_such_pooling_says_so_and_restores(picture):
    network = EDSR(3, 3, num_feat=8, num_block=1, upscale=2)
    restorer = Restorer(network, 'cpu', local_pooling=32)
    assert restorer.notes == ['Local pooling has no effect: EDSR has no pooling over the whole picture.']
    np.testing.assert_array_equal(restorer.restore_picture(picture), Restorer(network, 'cpu').restore_picture(picture))


def _with_strong_gates(network, words):
    """Gates of random networks are all near a half; these differ from place to place."""
    for name, value in network.named_parameters():
        if any(word in name for word in words):
            value.data *= 5
        elif name.startswith('body'):
            value.data *= 1.5
    return network


NETWORKS = {
    'pdan': lambda: PDAN(num_feat=8, num_group=2, num_block=2, squeeze_factor=4, fuse_levels=2),
    'rcan': lambda: RCAN(3, 3, num_feat=8, num_group=2, num_block=2, squeeze_factor=4, upscale=2),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_tiles_equal_the_whole_to_within_a_grey_level(name, picture):
    network = _with_strong_gates(NETWORKS[name](), ('channel_gate', 'attention'))
    picture = picture[:60].repeat(2, axis=1)  # 242 wide
    whole = Restorer(network, 'cpu', local_pooling=16).restore_picture(picture)
    plain = Restorer(network, 'cpu').restore_picture(picture)
    assert np.abs(whole.astype(int) - plain).max() > 2
    restorer = Restorer(network, 'cpu', tile=16, local_pooling=16)
    steps = []
    tiles = restorer.restore_picture(picture, lambda *numbers: steps.append(numbers))
    assert steps[-1][1] >= 2
    assert any('instead of 16, because of the windows of local pooling' in note for note in restorer.notes)
    assert np.abs(whole.astype(int) - tiles).max() <= 1


def test_windows_in_bfloat16(picture):
    network = _with_strong_gates(PDAN(num_feat=8, num_group=1, num_block=1, squeeze_factor=4, fuse_levels=1), ('gate',))
    small = picture[:30, 40:80]
    restorers = [Restorer(network, 'cpu', local_pooling=12, precision=name) for name in ('fp32', 'bf16')]
    assert all(
        each._network.local is not None and not each._network.local._by_pixel for each in restorers
    )  # the fast way in both
    fine, coarse = (each.restore_picture(small) for each in restorers)
    assert np.abs(fine.astype(int) - coarse).max() <= 4


@pytest.mark.long
def test_flips_and_tiles_and_windows_go_together(picture):
    network = _with_strong_gates(NETWORKS['rcan'](), ('attention',))
    options = {'local_pooling': 12, 'self_ensemble': True}
    picture = picture[:50]
    whole = Restorer(network, 'cpu', **options).restore_picture(picture)
    tiles = Restorer(network, 'cpu', tile=16, **options).restore_picture(picture)
    assert np.abs(whole.astype(int) - tiles).max() <= 1


def test_memory_of_windows_is_counted(picture):
    """Maps of gates take memory beside the features, also where the measured picture is smaller than a window."""
    network = nn.Sequential(nn.Conv2d(3, 32, 1), Gated(nn.AdaptiveAvgPool2d(1)), nn.Conv2d(32, 3, 1))
    needed = []
    for size in (None, 96):
        restorer = Restorer(network, 'cpu', tile='auto', local_pooling=size)
        restorer.restore_picture(picture[:40, :40])
        needed.append(restorer._budget.working.of_pixel)
    assert needed[1] > 1.2 * needed[0]


@pytest.mark.parametrize('size', [0, -3, True, 9.5, '96'])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(RequestError, match='local_pooling: expected a number of pixels'):
        Restorer(NETWORKS['pdan'](), 'cpu', local_pooling=size)
