"""Pictures below the least size of a network are extended by reflection."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.restorer import Restorer


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
