"""Passes over the tiles of a picture, in every requested form, with shared global poolings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from pdan_plugin.restoration.receptive_field import TOLERANCE
from pdan_plugin.restoration.self_ensemble import GeometricForm, mean_over_forms
from pdan_plugin.restoration.shared_pooling import SharedPooling
from pdan_plugin.restoration.tiling import Layout, Piece, Tile, assemble

_MOST_PASSES = 8
_PROBE = 64  # pixels: side of the part that is restored with the old and the new means


class TileRuns:
    """Restores the tiles of one picture, in as many passes as the shared poolings need.

    Args:
        forms: The flips and transpositions to average, or only the identity.
        global_poolings: Number of global poolings of the network; 0 if they need not be shared. Each form has its own
            values.
        at_once: Forms that the network gets in one batch, if they share no poolings.

    Attributes:
        passes: Number of passes over the tiles so far.
        has_settled: Whether the values used in the last pass were right to within the tolerance.
    """

    def __init__(
        self,
        restore: Callable[[Tensor], Tensor],
        forms: Sequence[GeometricForm],
        global_poolings: int,
        at_once: int = 1,
    ) -> None:
        self._restore, self._forms, self._global_poolings, self._at_once = restore, forms, global_poolings, at_once
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
        """Yields all pieces of the result once per restoring pass; later pieces replace earlier ones.

        Args:
            read: Returns the input of the network for a tile, (b, c, h, w) float32.
            on_tile: Called with (tiles done, tiles in all passes known to be needed).
            grid: The part restored between passes starts at multiples of this.
        """
        done, total = 0, layout.count * (2 if self._global_poolings else 1)

        def count_tile() -> None:
            nonlocal done
            done += 1
            if on_tile is not None:
                on_tile(done, total)

        if not self._global_poolings:
            self.passes = 1
            yield from assemble(layout, lambda tile: _and_then(self._in_forms(read(tile)), count_tile))
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
            count_tile()
        assert probe is not None
        self.passes, self.has_settled = 1, False
        before: Tensor | None = None
        while not self.has_settled and self.passes < _MOST_PASSES:
            for pooling in self._poolings.values():
                pooling.use_taken()
            before = self._with_shared(probe) if before is None else before
            yield from assemble(layout, lambda tile: _and_then(self._with_shared(read(tile), tile), count_tile))
            self.passes += 1
            after = self._with_shared(probe, taken=True)
            self.has_settled = float((after - before).abs().max()) <= TOLERANCE
            before = after
            total += 0 if self.has_settled else layout.count

    def _in_forms(self, part: Tensor) -> Tensor:
        if len(self._forms) == 1:
            return self._restore(part)
        if self._at_once > 1:
            parts = [form.apply(part).contiguous() for form in self._forms]
            restored = dict(zip(self._forms, restored_together(self._restore, parts, self._at_once), strict=True))
            return mean_over_forms(restored.pop)
        return mean_over_forms(lambda form: self._restore(form.apply(part).contiguous()))

    def _with_shared(self, part: Tensor, tile: Tile | None = None, taken: bool = False) -> Tensor:
        """Restores a part with the shared values, or with the newly measured ones if ``taken``.

        With ``tile``, also measures the values for the next pass.
        """

        def restored(form: GeometricForm) -> Tensor:
            pooling = self._poolings[form]
            if taken:
                pooling = SharedPooling([pooled.value for pooled in pooling.taken])
            core = None if tile is None else _core_in(form, tile)
            return pooling.restore(self._restore, form.apply(part).contiguous(), core)

        return restored(self._forms[0]) if len(self._forms) == 1 else mean_over_forms(restored)


def restored_together(restore: Callable[[Tensor], Tensor], parts: Sequence[Tensor], at_once: int) -> list[Tensor]:
    """Restores parts (1, c, h, w), those of one shape in batches of at most ``at_once``; the results in their order."""
    by_shape: dict[torch.Size, list[int]] = {}
    for number, part in enumerate(parts):
        by_shape.setdefault(part.shape, []).append(number)
    results: dict[int, Tensor] = {}
    for numbers in by_shape.values():
        for start in range(0, len(numbers), at_once):
            together = numbers[start : start + at_once]
            batch = restore(torch.cat([parts[number] for number in together]))
            results |= dict(zip(together, batch.split(1), strict=True))
    return [results[number] for number in range(len(parts))]


def _core_in(form: GeometricForm, tile: Tile) -> tuple[slice, slice]:
    """The place of the tile's core in the transformed tile."""
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
    """A square in the middle of a tile that starts and ends at multiples of the grid."""
    places = []
    for size in part.shape[-2:]:
        side = min(size, -(-_PROBE // grid) * grid)
        start = (size - side) // 2 // grid * grid
        places.append(slice(start, start + side))
    return part[(..., *places)].clone()


def _and_then(value: Tensor, call: Callable[[], None]) -> Tensor:
    call()
    return value
