"""The passes over a picture's tiles: each tile in every form asked for, with global poolings shared where there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pdan_plugin.restoration.receptive_field import TOLERANCE
from pdan_plugin.restoration.self_ensemble import GeometricForm, mean_over_forms
from pdan_plugin.restoration.shared_pooling import SharedPooling
from pdan_plugin.restoration.tiling import Layout, Piece, Tile, assemble

_MOST_PASSES = 8
_PROBE = 64  # pixels: the side of what is restored with the old and the new means


class TileRuns:
    """Goes over the tiles of one picture as often as it takes.

    Args:
        forms: The flips and transpositions that are averaged, or the one that changes nothing.
        global_poolings: How many the network has, 0 when they need not be shared. Each form has means of its own.

    Attributes:
        passes: Over the tiles, so far.
        has_settled: Whether the last pass used means that are right to within the tolerance.
    """

    def __init__(
        self, restore: Callable[[Tensor], Tensor], forms: Sequence[GeometricForm], global_poolings: int
    ) -> None:
        self._restore, self._forms, self._global_poolings = restore, forms, global_poolings
        self._poolings = {form: SharedPooling() for form in forms}
        self.passes = 0
        self.has_settled = True

    def pieces(
        self,
        layout: Layout,
        read: Callable[[Tile], Tensor],
        on_tile: Callable[[int, int], None] | None,
        grid: int,
    ) -> Iterator[Piece]:
        """The result's pieces, all of them once a pass: of later passes they replace the earlier ones.

        Args:
            read: Gives what the network sees of a tile, (b, c, h, w) float32.
            on_tile: Told (tiles done, tiles in all the passes known to be needed).
            grid: Where the part looked at between passes may begin.
        """
        done, total = 0, layout.count * (2 if self._global_poolings else 1)

        def told() -> None:
            nonlocal done
            done += 1
            if on_tile is not None:
                on_tile(done, total)

        if not self._global_poolings:
            self.passes = 1
            yield from assemble(layout, lambda tile: _and_then(self._in_forms(read(tile)), told))
            return
        probe: Tensor | None = None
        contrast = -1.0
        for tile in layout.tiles():
            part = read(tile)
            for form in self._forms:
                core = _core_in(form, tile)
                self._poolings[form].take(self._restore, form.apply(part).contiguous(), core, self._global_poolings)
            if float(part.std()) > contrast:
                contrast, probe = float(part.std()), _middle(part, grid)
            told()
        assert probe is not None
        self.passes, self.has_settled = 1, False
        before: Tensor | None = None
        while not self.has_settled and self.passes < _MOST_PASSES:
            for pooling in self._poolings.values():
                pooling.use_taken()
            before = self._with_shared(probe) if before is None else before
            yield from assemble(layout, lambda tile: _and_then(self._with_shared(read(tile), tile), told))
            self.passes += 1
            after = self._with_shared(probe, taken=True)
            self.has_settled = float((after - before).abs().max()) <= TOLERANCE
            before = after
            total += 0 if self.has_settled else layout.count

    def _in_forms(self, part: Tensor) -> Tensor:
        if len(self._forms) == 1:
            return self._restore(part)
        return mean_over_forms(lambda form: self._restore(form.apply(part).contiguous()))

    def _with_shared(self, part: Tensor, tile: Tile | None = None, taken: bool = False) -> Tensor:
        """A part restored with the shared means; of a tile, the next ones are taken; or with those just taken."""

        def restored(form: GeometricForm) -> Tensor:
            pooling = self._poolings[form]
            if taken:
                pooling = SharedPooling([pooled.value for pooled in pooling.taken])
            core = None if tile is None else _core_in(form, tile)
            return pooling.restore(self._restore, form.apply(part).contiguous(), core)

        return restored(self._forms[0]) if len(self._forms) == 1 else mean_over_forms(restored)


def _core_in(form: GeometricForm, tile: Tile) -> tuple[slice, slice]:
    """Where the tile's core lies in the tile turned into a form."""
    mask = torch.zeros(tile.size, dtype=torch.bool)
    rows, columns = tile.core
    mask[
        rows.start - tile.rows.start : rows.stop - tile.rows.start,
        columns.start - tile.columns.start : columns.stop - tile.columns.start,
    ] = True
    places = form.apply(mask).nonzero()
    (top, left), (bottom, right) = places.amin(dim=0).tolist(), places.amax(dim=0).tolist()
    return slice(top, bottom + 1), slice(left, right + 1)


def _middle(part: Tensor, grid: int) -> Tensor:
    """A square in the middle of a tile, beginning and ending at multiples of the grid."""
    places = []
    for size in part.shape[-2:]:
        side = min(size, -(-_PROBE // grid) * grid)
        start = (size - side) // 2 // grid * grid
        places.append(slice(start, start + side))
    return part[(..., *places)].clone()


def _and_then(value: Tensor, told: Callable[[], None]) -> Tensor:
    told()
    return value
