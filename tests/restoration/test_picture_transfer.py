"""Pictures reach the network, and come back, as the plain arithmetic in float32 says."""

import numpy as np
import pytest
import torch

from pdan_plugin.errors import WorkError
from pdan_plugin.restoration.picture_transfer import from_network, part_of, to_network
from pdan_plugin.restoration.tiling import Span, Tile

CPU = torch.device('cpu')


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_every_value_is_divided_as_in_float32(kind):
    top = np.iinfo(kind).max
    picture = np.arange(top + 1, dtype=kind).reshape(16, -1, 1).repeat(3, axis=2)
    picture.flags.writeable = False  # as Pillow's are
    batch = to_network(picture, CPU)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = picture.astype(np.float32) / np.float32(top)
    np.testing.assert_array_equal(batch[0].permute(1, 2, 0).numpy(), expected)


class _OnGpu(torch.Tensor):
    """A mock of a tensor on a GPU: its values are here, its device is not a CPU."""

    @property
    def device(self):
        return torch.device('xpu')


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('place', ['cpu', 'gpu'])
@pytest.mark.parametrize('layout', ['channels-first', 'channels-last', 'a part'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_results_are_clipped_and_rounded_half_to_even(kind, place, layout, channels):
    top = int(np.iinfo(kind).max)
    torch.manual_seed(0)
    values = torch.randn(1, channels, 37, 53) * 0.4 + 0.5
    values[0, 0, 0, :4] = torch.tensor([0.5, 1.5, 2.5, 300.5]) / top
    if layout == 'channels-last':
        values = values.contiguous(memory_format=torch.channels_last)
    elif layout == 'a part':
        values = torch.nn.functional.pad(values, (0, 5, 0, 3))[..., :37, :53]
    expected = values[0].clamp(0, 1).mul(top).round().to(torch.int32).permute(1, 2, 0).numpy().astype(kind)
    given = values[0].as_subclass(_OnGpu) if place == 'gpu' else values[0]
    result = from_network(given, kind)()
    assert result.dtype == kind
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
@pytest.mark.parametrize('place', ['cpu', 'gpu'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_values_that_are_no_grey_levels_are_refused(kind, place, layout, value):
    """They would be black or white; here in the last pixel of several bands."""
    values = torch.rand(1, 3, 300, 400).contiguous(memory_format=layout)
    values[0, 2, -1, -1] = value
    given = values[0].as_subclass(_OnGpu) if place == 'gpu' else values[0]
    with pytest.raises(WorkError, match=r'not finite.*use bf16 or fp32'):
        from_network(given, kind)()


def test_a_tile_beyond_the_border_is_a_reflection():
    picture = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    tile = Tile(Span(2, 8, 2, 8), Span(1, 9, 1, 9), (slice(2, 8), slice(1, 9)))
    expected = np.pad(picture, ((0, 3), (0, 3), (0, 0)), mode='reflect')[2:8, 1:9]
    np.testing.assert_array_equal(part_of(picture, tile), expected)
