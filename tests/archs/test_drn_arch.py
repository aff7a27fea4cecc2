"""DRN: its size and its outputs."""

import pytest
import torch

from pdan_plugin.archs.drn_arch import DRN


@pytest.mark.parametrize(
    ('configuration', 'parameters'), [({}, 4_804_041), ({'num_feat': 20, 'num_block': 40}, 9_825_869)]
)
def test_published_sizes(configuration, parameters):
    with torch.device('meta'):
        assert sum(parameter.numel() for parameter in DRN(**configuration).parameters()) == parameters


@pytest.mark.parametrize('size', [(1, 1), (5, 7), (8, 6)])
def test_every_scale_is_returned_on_request(size):
    network, (height, width) = DRN(num_block=1), size
    outputs = network(torch.rand(2, 3, height, width), return_all=True)
    assert [tuple(output.shape[2:]) for output in outputs] == [(height * s, width * s) for s in (1, 2, 4)]


def test_plain_forward_is_the_largest_scale():
    network, picture = DRN(num_block=1), torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(network(picture), network(picture, return_all=True)[-1], rtol=0, atol=0)


def test_every_parameter_gets_a_gradient():
    network = DRN(num_block=1)
    sum(output.mean() for output in network(torch.rand(1, 3, 8, 8), return_all=True)).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize('upscale', [1, 3])
def test_upscale_must_be_a_power_of_two(upscale):
    with pytest.raises(ValueError, match='upscale'):
        DRN(upscale=upscale)
