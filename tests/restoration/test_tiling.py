"""Where tiles lie and how they are put together."""

import itertools

import numpy as np
import pytest
import torch

from pdan_plugin.restoration.tiling import assemble, blending_zone, gather, reflected, smallest_tile, tile_layout


def restored_in_tiles(restore, batch, tile, overlap):
    height, width = batch.shape[-2:]

    def restore_tile(part):
        rows, columns = part.rows, part.columns
        return restore(batch[..., rows.start : rows.stop, columns.start : columns.stop])

    return gather(assemble(tile_layout(height, width, tile, overlap), restore_tile), height, width)


def test_every_layout_covers_blends_and_stays_inside():
    draws = np.random.default_rng(0)
    for _ in range(1000):
        grid, overlap, length = draws.choice([1, 2, 7, 8]), int(draws.integers(0, 20)), int(draws.integers(1, 500))
        tile = smallest_tile(overlap, grid) + int(draws.integers(0, 60))
        spans = tile_layout(length, 1, tile, overlap, int(grid)).rows
        shares = np.zeros(length)
        for span in spans:
            assert 0 <= span.start <= span.used_start < span.used_stop <= span.stop <= length
            assert span.size <= tile
            assert span.start % grid == 0
            shares[span.used_start : span.used_stop] += 1
        assert shares.min() == 1
        assert shares.max() <= 2
        zones = (len(spans) - 1) * blending_zone(-(-overlap // grid) * grid)
        assert (shares == 2).sum() == zones


def test_margins_at_tile_borders_are_not_used():
    spans = tile_layout(100, 1, 40, 16).rows
    assert [(before.stop - before.used_stop, after.used_start - after.start)
            for before, after in itertools.pairwise(spans)] == [(6, 6)] * (len(spans) - 1)  # fmt: skip


def test_tiles_of_a_network_that_looks_at_single_pixels_change_nothing():
    picture = torch.rand(2, 3, 101, 77)

    def twofold(batch):
        return batch.repeat_interleave(2, -1).repeat_interleave(2, -2)

    for overlap in (0, 5, 12):
        restored = restored_in_tiles(twofold, picture, 32, overlap)
        torch.testing.assert_close(restored, twofold(picture), rtol=0, atol=1e-6)


def test_the_result_goes_over_linearly_from_one_tile_to_the_next():
    results = iter([0.0, 1.0])
    restored = restored_in_tiles(lambda part: torch.full_like(part, next(results)), torch.rand(1, 1, 1, 24), 20, 8)
    assert restored[0, 0, 0].tolist() == [0.0] * 11 + [0.25, 0.75] + [1.0] * 11


def test_a_tile_too_small_for_its_overlap_is_refused():
    with pytest.raises(ValueError, match='tile: expected at least 33'):
        tile_layout(100, 100, 20, 16)


@pytest.mark.parametrize(('size', 'reach'), [(5, 7), (2, 6), (1, 4), (3, 3)])
def test_pictures_go_on_as_numpy_reflects_them(size, reach):
    mode = 'reflect' if size > 1 else 'edge'
    assert reflected(0, size + reach, size).tolist() == np.pad(np.arange(size), (0, reach), mode).tolist()
