"""DRN: its size, its outputs, and the weights its authors released."""

import pytest
import torch
import yaml
from drn_of_its_authors import AuthorsDRN

from pdan_plugin.archs.drn_arch import DRN
from pdan_plugin.weights.trained_network import load_trained_network


def parameters_of_4x(features, blocks):
    """The layers of the paper's 4x network, counted one by one."""

    def conv(channels, out_channels, size=3, bias=True):
        return channels * out_channels * size**2 + bias * out_channels

    half, quarter = 2 * features, 4 * features
    down = conv(features, features, bias=False) + conv(features, half, bias=False)
    down += conv(half, half, bias=False) + conv(half, quarter, bias=False)
    attention = conv(quarter, quarter // 16, 1) + conv(quarter // 16, quarter, 1)
    block = 2 * conv(quarter, quarter) + attention
    up = 2 * (blocks * block + conv(quarter, 4 * quarter)) + conv(quarter, half, 1) + conv(quarter, features, 1)
    return conv(3, features) + down + up + conv(quarter, 3) + conv(2 * half, 3) + conv(2 * features, 3)


@pytest.mark.parametrize(
    ('features', 'blocks', 'parameters'), [(16, 30, 4_804_041), (20, 40, 9_825_869)], ids=['DRN-S', 'DRN-L']
)
def test_published_sizes(features, blocks, parameters):
    with torch.device('meta'):
        network = DRN(num_feat=features, num_block=blocks)
    assert sum(each.numel() for each in network.parameters()) == parameters_of_4x(features, blocks) == parameters


@pytest.mark.parametrize('size', [(1, 1), (5, 7), (8, 6)])
def test_every_scale_is_returned_on_request(size):
    network, (height, width) = DRN(num_block=1), size
    outputs = network(torch.rand(2, 3, height, width), return_all=True)
    assert [tuple(output.shape[2:]) for output in outputs] == [(height * s, width * s) for s in (1, 2, 4)]


def test_plain_forward_is_the_largest_scale():
    network, picture = DRN(num_block=1), torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(network(picture), network(picture, return_all=True)[-1], rtol=0, atol=0)


@pytest.mark.parametrize('upscale', [1, 3])
def test_upscale_must_be_a_power_of_two(upscale):
    with pytest.raises(ValueError, match='upscale'):
        DRN(upscale=upscale)


@pytest.mark.parametrize(('upscale', 'largest'), [(2, 16), (4, 32), (8, 32)])
def test_a_squeeze_must_leave_a_channel(upscale, largest):
    DRN(num_feat=8, num_block=1, upscale=upscale, squeeze_factor=largest)
    with pytest.raises(ValueError, match=f'squeeze_factor: expected 1 to {largest}'):
        DRN(num_feat=8, num_block=1, upscale=upscale, squeeze_factor=largest + 1)


@pytest.mark.parametrize('channels', [{'num_in_ch': 1}, {'num_out_ch': 1}, {'num_in_ch': 1, 'num_out_ch': 1}])
def test_channels_must_be_of_one_number(channels):
    with pytest.raises(ValueError, match='must be the same number'):
        DRN(num_block=1, **channels)
    DRN(num_block=1, num_in_ch=1, num_out_ch=1, rgb_mean=(0.5,))


def test_a_picture_of_other_channels_is_refused():
    with pytest.raises(ValueError, match=r'DRN takes \(b, 3, h, w\), got \(1, 1, 8, 8\)'):
        DRN(num_block=1)(torch.rand(1, 1, 8, 8))


@pytest.fixture
def authors_network():
    """With every weight moved, those of the shifts by the mean too, as their training leaves them."""
    network = AuthorsDRN(16, 2).eval()
    with torch.no_grad():
        for shift in (network.sub_mean, network.add_mean):
            for parameter, size in ((shift.weight, 0.1), (shift.bias, 5)):
                parameter.add_(size * torch.randn(parameter.shape))
    return network


@pytest.mark.parametrize('img_range', [255.0, 1.0])
def test_the_authors_weights_give_the_authors_pictures(authors_network, img_range):
    network = DRN(num_block=2, img_range=img_range).eval()
    network.load_state_dict(authors_network.state_dict())
    picture = torch.rand(1, 3, 7, 9)
    with torch.no_grad():
        for output, expected in zip(network(picture, return_all=True), authors_network(255 * picture), strict=True):
            torch.testing.assert_close(255 * output, expected, rtol=1e-4, atol=1e-2)
    again = DRN(num_block=2, img_range=img_range)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(picture), network(picture), rtol=0, atol=0)


def test_the_authors_file_is_used_as_it_is(authors_network, tmp_path):
    """A plain state dict, beside an option file that says which network it is for."""
    weights, options = tmp_path / 'DRNS4x.pt', tmp_path / 'drn.yml'
    torch.save(authors_network.state_dict(), weights)
    options.write_text(yaml.safe_dump({'network_g': {'type': 'DRN', 'num_block': 2}}))
    network, picture = load_trained_network(weights, options), torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(255 * network(picture), authors_network(255 * picture)[-1], rtol=1e-4, atol=1e-2)


def test_weights_saved_before_the_mean_was_kept_load():
    network = DRN(num_block=1)
    older = {name: value for name, value in network.state_dict().items() if name != 'mean'}
    DRN(num_block=1).load_state_dict(older)


def test_weights_of_another_size_are_refused(authors_network):
    with pytest.raises(RuntimeError, match='Unexpected key'):
        DRN(num_block=1).load_state_dict(authors_network.state_dict())
