"""Tiles for pictures of any size: where tiles lie, and how their results are blended into one picture.

Tiles overlap. The outer three eighths of the overlap along each tile's border are discarded, because the border changes
the result there. In the quarter between them the two tiles are blended linearly. Each piece of the result is yielded as
soon as it is final. Only the blending zone below a row of tiles is kept, so memory does not grow with the height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in input pixels, ends exclusive.

    Attributes:
        start, stop: The input of the network.
        used_start, used_stop: The part of it that is used. The parts of two neighbours share the blending zone.
    """

    start: int
    stop: int
    used_start: int
    used_stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Tile:
    """A tile, and its core (rows, columns) in the picture; the cores of all tiles cover it without overlap."""

    rows: Span
    columns: Span
    core: tuple[slice, slice]

    @property
    def size(self) -> tuple[int, int]:
        return self.rows.size, self.columns.size


@dataclass(frozen=True)
class Layout:
    """The tiles of a picture; rows of tiles from top to bottom, each from left to right."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    def tiles(self) -> Iterator[Tile]:
        for row, row_core in zip(self.rows, _cores(self.rows), strict=True):
            for column, column_core in zip(self.columns, _cores(self.columns), strict=True):
                yield Tile(row, column, (row_core, column_core))


def tile_layout(height: int, width: int, tile: int, overlap: int, grid: int = 1) -> Layout:
    """The fewest tiles, of about equal size and at most ``tile`` wide and high, that cover a picture.

    ``overlap`` is rounded up and ``tile`` down to a multiple of ``grid``, and every tile starts at a multiple of it. So
    a network with windows or strides sees each pixel at the same place of a window as in the whole picture.

    Raises:
        ValueError: ``tile`` is less than :func:`smallest_tile` and the picture is larger.
    """
    return Layout(tuple(_spans(height, tile, overlap, grid)), tuple(_spans(width, tile, overlap, grid)))


def smallest_tile(overlap: int, grid: int = 1) -> int:
    """The smallest tile whose overlaps with the neighbours on both sides do not touch."""
    return (2 * math.ceil(overlap / grid) + 1) * grid


def largest_overlap(tile: int, grid: int = 1) -> int:
    """The largest overlap that a tile allows; the inverse of :func:`smallest_tile`."""
    return max(0, (tile // grid - 1) // 2) * grid


def blending_zone(overlap: int) -> int:
    """The width of the zone, in the middle of an overlap, in which two tiles are blended."""
    return math.ceil(overlap / 4)


@dataclass(frozen=True)
class Piece:
    """A finished rectangle of the result: its values (b, c, rows, columns), its top and left, and the scale."""

    values: Tensor
    top: int
    left: int
    scale: int


def assemble(layout: Layout, restore_tile: Callable[[Tile], Tensor]) -> Iterator[Piece]:
    """Restores tile after tile and yields float32 pieces, which cover the result without overlap.

    Between tiles, memory holds the zones shared with the row below (as wide as the picture) and the tile to the right.
    """
    if layout.count == 1:
        output = restore_tile(next(layout.tiles()))
        yield Piece(output.float(), 0, 0, output.shape[-2] // layout.rows[0].size)
        return
    waiting_above: Tensor | None = None  # the zone shared with the row above, weighted, all columns
    tiles = layout.tiles()
    for row_number, row in enumerate(layout.rows):
        waiting_left: Tensor | None = None
        waiting_below: Tensor | None = None
        zone_above = _zone(layout.rows, row_number)
        own_rows = row.used_stop - row.used_start - _zone(layout.rows, row_number + 1)
        for column_number, column in enumerate(layout.columns):
            tile = next(tiles)
            output = restore_tile(tile)
            scale = output.shape[-2] // row.size
            values = _weighted(output, layout, row_number, column_number, scale)
            del output
            left, right = column.used_start * scale, column.used_stop * scale
            if own_rows < row.used_stop - row.used_start:
                below = values[..., own_rows * scale :, :]
                if waiting_below is None:
                    shape = (*below.shape[:-1], layout.columns[-1].stop * scale)
                    waiting_below = torch.zeros(shape, dtype=torch.float32, device=below.device)
                waiting_below[..., left:right] += below
            values = values[..., : own_rows * scale, :]
            if waiting_left is not None:
                values[..., : waiting_left.shape[-1]] += waiting_left
            own_columns = column.used_stop - column.used_start - _zone(layout.columns, column_number + 1)
            waiting_left = values[..., own_columns * scale :].clone()
            values = values[..., : own_columns * scale]
            if waiting_above is not None:
                values[..., : zone_above * scale, :] += waiting_above[..., left : left + own_columns * scale]
            yield Piece(values, row.used_start * scale, left, scale)
        waiting_above = waiting_below


def gather(pieces: Iterator[Piece], height: int, width: int) -> Tensor:
    """The pieces as one tensor (b, c, s * height, s * width), on their device; the part outside is cropped."""
    result: Tensor | None = None
    for piece in pieces:
        if result is None:
            shape = (*piece.values.shape[:-2], height * piece.scale, width * piece.scale)
            result = torch.empty(shape, dtype=piece.values.dtype, device=piece.values.device)
        target = result[..., piece.top : piece.top + piece.values.shape[-2], piece.left :]
        target = target[..., : piece.values.shape[-1]]
        target.copy_(piece.values[..., : target.shape[-2], : target.shape[-1]])
    assert result is not None
    return result


def reflected(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """The indices [start, stop) of an axis of ``size``, extended by reflection (edge not repeated) as often as needed;
    an axis of size 1 is extended by its one index."""
    period = max(1, 2 * (size - 1))
    places = np.arange(start, stop) % period
    return np.minimum(places, period - places) if size > 1 else np.zeros(stop - start, np.intp)


def _spans(length: int, tile: int, overlap: int, grid: int) -> list[Span]:
    if length <= tile:
        return [Span(0, length, 0, length)]
    if tile < smallest_tile(overlap, grid):
        raise ValueError(
            f'tile: expected at least {smallest_tile(overlap, grid)} for an overlap of {overlap} on a grid of {grid}, '
            f'got {tile}.'
        )
    # everything in units of the grid
    length_units, overlap_units = math.ceil(length / grid), math.ceil(overlap / grid)
    count = math.ceil((length_units - overlap_units) / (tile // grid - overlap_units))
    if count == 1:
        return [Span(0, length, 0, length)]
    size = math.ceil((length_units + (count - 1) * overlap_units) / count)
    starts = [number * (length_units - size) // (count - 1) * grid for number in range(count)]
    stops = [min(length, start + size * grid) for start in starts]
    zone = blending_zone(overlap_units * grid)
    meetings = [
        start + max(0, stop - start - zone) // 2 for start, stop in zip(starts[1:], stops[:-1], strict=True)
    ]  # fmt: skip
    used_starts = [0, *meetings]
    used_stops = [*(meeting + zone for meeting in meetings), length]
    return [Span(*ends) for ends in zip(starts, stops, used_starts, used_stops, strict=True)]


def _cores(spans: tuple[Span, ...]) -> list[slice]:
    middles = [(after.used_start + before.used_stop) // 2 for before, after in pairwise(spans)]
    return [slice(*ends) for ends in zip([0, *middles], [*middles, spans[-1].stop], strict=True)]


def _zone(spans: tuple[Span, ...], number: int) -> int:
    """The width of the blending zone between span ``number`` and the one before it."""
    if number == 0 or number == len(spans):
        return 0
    return spans[number - 1].used_stop - spans[number].used_start


def _weighted(output: Tensor, layout: Layout, row_number: int, column_number: int, scale: int) -> Tensor:
    """The used part of a tile's result, multiplied by its blending weights; a new tensor."""
    row, column = layout.rows[row_number], layout.columns[column_number]
    rows = slice((row.used_start - row.start) * scale, (row.used_stop - row.start) * scale)
    columns = slice((column.used_start - column.start) * scale, (column.used_stop - column.start) * scale)
    down = _shares(layout.rows, row_number, scale).to(output.device)
    across = _shares(layout.columns, column_number, scale).to(output.device)
    values = output[..., rows, columns].float() * down[:, None]
    return values.mul_(across)


def _shares(spans: tuple[Span, ...], number: int, scale: int) -> Tensor:
    span = spans[number]
    shares = torch.ones((span.used_stop - span.used_start) * scale)
    before, after = _zone(spans, number) * scale, _zone(spans, number + 1) * scale
    if before:
        shares[:before] = (torch.arange(before) + 0.5) / before
    if after:
        shares[-after:] = 1 - (torch.arange(after) + 0.5) / after
    return shares
