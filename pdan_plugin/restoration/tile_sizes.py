"""Decides the size of a picture's tiles and how far they overlap: as asked, or as memory and the network allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Literal

from pdan_plugin.restoration.memory_budget import MemoryBudget
from pdan_plugin.restoration.receptive_field import Reach
from pdan_plugin.restoration.tiling import Layout, largest_overlap, smallest_tile, tile_layout

_SHRINKING = 0.7  # factor on a tile's side after running out of memory: half the area


class TileSizes:
    """The sizes of the tiles of one network on one device.

    Args:
        asked: The largest side of a tile; 'auto' for the whole picture if memory allows, else the largest tile that
            fits; None for whole pictures.
        overlap: Pixels that tiles share; None for what the network needs.
        multiple: The network accepts sides that are multiples of this.
        window: Side of the windows of local pooling; 0 without it.
        budget: The memory of the network, for 'auto'.
        measure_reach: Measures what the network needs; called once, when the first tiles are made.
        note: Called with messages for the user.
    """

    def __init__(
        self,
        asked: int | Literal['auto'] | None,
        overlap: int | None,
        *,
        multiple: int,
        window: int,
        budget: MemoryBudget,
        measure_reach: Callable[[], Reach],
        note: Callable[[str], None],
    ) -> None:
        self._asked, self._asked_overlap, self._multiple, self._window = asked, overlap, multiple, window
        self._budget, self._measure_reach, self._note = budget, measure_reach, note
        self._largest: int | None = None  # the largest side since memory ran out

    @property
    def are_whole_pictures(self) -> bool:
        """Whether every picture is restored whole, whatever its size."""
        return self._asked is None and self._largest is None

    @property
    def grid(self) -> int:
        """Tiles start at multiples of this."""
        return self._reach.grid

    def layout(self, height: int, width: int, pictures: int) -> Layout:
        """The tiles of a picture; one tile for a whole picture.

        Args:
            height, width: Of the picture, multiples that the network accepts.
            pictures: Bytes of the picture and its result.

        Raises:
            RequestError: The allowed memory does not suffice for the smallest tile.
        """
        tile = self.side(height, width, pictures)
        if tile is None or max(height, width) <= tile:
            return tile_layout(height, width, max(height, width), 0)
        grid, overlap = self.grid, self._overlap
        tile = max(tile, smallest_tile(0, grid))
        if self._window and self._asked_overlap is None and self._largest is None:
            least = smallest_tile(overlap, grid)
            if tile < least:
                self._note(f'Tiles of {least} pixels instead of {tile}, because of the windows of local pooling.')
                tile = least
                if max(height, width) <= tile:
                    return tile_layout(height, width, max(height, width), 0)
        room = largest_overlap(tile, grid)
        if room < overlap:
            self._note(
                f'Tiles of {tile} pixels allow an overlap of {room}, but the network needs {overlap}: seams may be '
                f'visible. Use tiles of {smallest_tile(overlap, grid)} or more.'
            )
            overlap = room
        self._note(f'Tiles of at most {tile} pixels, overlap {overlap}.')
        return tile_layout(height, width, tile, overlap, grid)

    def side(self, height: int, width: int, pictures: int) -> int | None:
        """The largest allowed side of a tile; None for a whole picture. Args and raises: See :meth:`layout`."""
        if not isinstance(self._asked, str):
            sides = [side for side in (self._asked, self._largest) if side is not None]
            return min(sides) if sides else None
        if self._largest is None and self._budget.fits(height * width, pictures):
            return None
        least = smallest_tile(self._overlap, self.grid)
        side = self._budget.side(pictures)
        if self._largest is not None:
            return min(side, self._largest)
        self._budget.require(least, pictures)
        return side

    def shrink(self, before: int) -> int | None:
        """Chooses a smaller largest side for all further tiles after memory ran out, and returns it.

        None if a tile of ``before`` pixels is already the smallest.
        """
        smaller = max(int(before * _SHRINKING), smallest_tile(0, self.grid)) // self._multiple * self._multiple
        if smaller >= before:
            return None
        self._largest = smaller
        return smaller

    @property
    def _overlap(self) -> int:
        """The overlap that was asked for, or that the network needs."""
        if self._asked_overlap is not None:
            return self._asked_overlap
        # three eighths of an overlap are discarded: at least half a window
        least = math.ceil(self._window * 4 / 3 / self.grid) * self.grid
        return max(self._reach.overlap, least)

    @cached_property
    def _reach(self) -> Reach:
        return self._measure_reach()
