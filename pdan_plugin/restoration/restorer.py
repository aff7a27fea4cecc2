"""Restores pictures with a trained network: tiles, self-ensemble, number format, memory limit."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.accelerators import free_cached_memory, has_own_memory
from pdan_plugin.machine.memory import free_memory, held_memory
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.machine.working_memory import (
    SHARE,
    bytes_per_pixel,
    is_out_of_memory,
    may_be_unsupported,
)
from pdan_plugin.restoration.inference_network import inference_network
from pdan_plugin.restoration.local_pooling import LocalPooling
from pdan_plugin.restoration.picture_transfer import from_network, part_of, to_network
from pdan_plugin.restoration.receptive_field import Reach, measure_reach, network_shape
from pdan_plugin.restoration.self_ensemble import GEOMETRIC_FORMS, GeometricForm
from pdan_plugin.restoration.tile_runs import TileRuns, restored_together
from pdan_plugin.restoration.tiling import (
    Layout,
    Piece,
    Tile,
    gather,
    largest_overlap,
    reflected,
    smallest_tile,
    tile_layout,
)

_SHRINKING = 0.7  # factor on a tile's side after running out of memory: half the area
_BUSY_PIXELS = 2**18  # of the input, a quarter of a million: enough work for a GPU at a time
_SPARE = 16  # share of an allowed memory for pictures that wait
_UNSUPPORTED = (
    ' (cuDNN says so when memory is short, and when the GPU has no such convolution in this number format; with '
    '--precision fp32 every GPU has it)'
)

Read = Callable[[Tile], Tensor]
OnTile = Callable[[int, int], None]


class Restorer:
    """Restores pictures of any size with one network.

    If the network accepts only multiples of a size, the picture is extended by reflection at the right and the bottom,
    and the result is cropped. The multiple is found by running the network on small inputs.

    Args:
        network: Any arch that maps a picture (1, c, h, w) to one of the same size or larger.
        device: The device to run on.
        precision: 'fp32', 'bf16' or 'fp16', by autocast.
        compiled: Whether to use torch.compile; tiles of a network with global pooling run without it (see ``notes``).
        tile: The largest side of a tile; 'auto' for the whole picture if memory allows, else the largest tile that
            fits; None for whole pictures. Running out of memory leads to smaller tiles in every case.
        overlap: Pixels that tiles share; None to measure what the network needs when the first tiles are made.
        memory: For 'auto', the most bytes that this process may use (on CUDA, of the device's memory); None for four
            fifths of the free memory.
        self_ensemble: Whether to average the eight flips and transpositions, which takes eight times as long.
        local_pooling: Side, in pixels of the input, of the windows that replace the network's poolings over the whole
            picture (:mod:`~pdan_plugin.restoration.local_pooling`); None for no change. Then tiles are never smaller
            than the windows need.

    Attributes:
        scale: Height and width of the result, divided by those of the input.
        channels: Channels of the input.
        notes: Messages for the user: tile size and overlap, smaller tiles after running out of memory, possible seams.

    Raises:
        RequestError: an argument is out of its range, or the network does not restore pictures.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str,
        *,
        precision: str = 'fp32',
        compiled: bool = False,
        tile: int | Literal['auto'] | None = None,
        overlap: int | None = None,
        memory: int | None = None,
        self_ensemble: bool = False,
        local_pooling: int | None = None,
    ) -> None:
        _check_arguments(tile, overlap, memory, local_pooling)
        self.device = torch.device(device)
        self.notes: list[str] = []
        self._network, self._compiled, self._is_float32 = network, compiled, precision == 'fp32'
        self._tile, self._asked_overlap, self._memory = tile, overlap, memory
        self._forms = GEOMETRIC_FORMS if self_ensemble else (GeometricForm(),)
        self._restore = inference_network(network, self.device, precision=precision, compiled=compiled)
        with self._uncompiled(True), _measuring('the accepted sizes'):
            self._shape = network_shape(self._restore, network)
        self.scale, self.channels = self._shape.scale, self._shape.channels
        self._local, self._window = self._with_local_pooling(local_pooling), local_pooling or 0
        self._reach: Reach | None = None
        self._bytes_per_pixel: int | None = None
        self._held, self._budget = held_memory(self.device), 0.0
        self._largest: int | None = None  # the largest side since memory ran out
        self._is_alone = False  # whether memory ran out with several pictures at once
        if isinstance(tile, int) and overlap is not None and tile < smallest_tile(overlap, self._shape.multiple):
            raise RequestError(
                f'tile: {tile} leaves no room for an overlap of {overlap}; expected at least '
                f'{smallest_tile(overlap, self._shape.multiple)}, or a smaller overlap.'
            )

    def __call__(self, batch: Tensor, on_tile: OnTile | None = None) -> Tensor:
        """(b, c, h, w) float32 [0, 1] on any device -> (b, c, s * h, s * w) float32 on the device, not clipped.

        With tiles, the pictures of a batch are restored one after another.

        Args:
            on_tile: As in :meth:`restore_picture`, for each picture.

        Raises:
            RequestError: the number of channels is wrong, or the allowed memory does not suffice.
            WorkError: out of memory with the smallest tile.
        """
        if batch.dim() != 4 or batch.shape[1] != self.channels or 0 in batch.shape:
            raise RequestError(f'expected a batch (b, {self.channels}, h, w), got {tuple(batch.shape)}.')
        height, width = batch.shape[-2:]

        def restored(pictures: Tensor) -> Tensor:
            def read(tile: Tile) -> Tensor:
                if tile.rows.stop <= height and tile.columns.stop <= width:
                    return pictures[..., tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
                rows = torch.from_numpy(reflected(tile.rows.start, tile.rows.stop, height)).to(pictures.device)
                columns = torch.from_numpy(reflected(tile.columns.start, tile.columns.stop, width))
                return pictures[..., rows, :][..., columns.to(pictures.device)]

            return gather(self._pieces(read, height, width, on_tile, 0), height, width)

        # without tiles the batch runs as the caller made it
        if len(batch) == 1 or (self._tile is None and self._largest is None):
            return restored(batch)
        return torch.cat([restored(picture[None]) for picture in batch])

    def check_memory(self, height: int, width: int) -> None:
        """Checks whether the allowed memory suffices for a picture (h, w, c) of uint8, without restoring it.

        Raises:
            RequestError: The memory does not suffice, even with the smallest tiles.
        """
        picture_sizes = (self.scale**2 + 1) * height * width * self.channels
        self._side(self._multiple_above(height), self._multiple_above(width), picture_sizes)

    def restore_picture(self, picture: NDArray, on_tile: OnTile | None = None) -> NDArray:
        """(h, w, c) RGB, uint8 or uint16 -> (s * h, s * w, c) of the same type, clipped and rounded (half to even).

        Each finished piece is rounded into the result at once. Memory holds the two pictures, the work of one tile, and
        the blending zone below a row of tiles.

        Args:
            on_tile: Called after each tile with (tiles done, tiles in total). Tiles count once per pass, and the total
                grows if another pass is needed.

        Raises:
            RequestError: the type or number of channels is wrong, or the allowed memory does not suffice.
            WorkError: out of memory with the smallest tile.
        """
        return self.begin_picture(picture, on_tile)()

    def begin_picture(self, picture: NDArray, on_tile: OnTile | None = None) -> Callable[[], NDArray]:
        """Like :meth:`restore_picture`, but returns a function that returns the result, to be called once.

        If the picture is restored whole, what remains for the function is rounding, on a GPU also waiting for it and
        copying. It may be called in another thread, while this one begins the next picture.

        Args and raises: See :meth:`restore_picture`.
        """
        if picture.dtype not in (np.uint8, np.uint16):
            raise RequestError(f'expected a picture of uint8 or uint16, got {picture.dtype}.')
        if picture.ndim != 3 or picture.shape[2] != self.channels or 0 in picture.shape:
            raise RequestError(f'expected a picture (h, w, {self.channels}), got {picture.shape}.')
        height, width = picture.shape[:2]

        def read(tile: Tile) -> Tensor:
            return to_network(part_of(picture, tile), self.device)

        shape = height * self.scale, width * self.scale
        result: NDArray | None = None
        # the pieces of the last pass replace those of the passes before
        for piece in self._pieces(read, height, width, on_tile, (self.scale**2 + 1) * picture.nbytes):
            if result is None and piece.values.shape[-2] >= shape[0] and piece.values.shape[-1] >= shape[1]:
                return from_network(piece.values[0, :, : shape[0], : shape[1]], picture.dtype)
            if result is None:
                result = np.empty((*shape, piece.values.shape[1]), picture.dtype)
            place = result[piece.top : piece.top + piece.values.shape[-2], piece.left :][:, : piece.values.shape[-1]]
            place[...] = from_network(piece.values[0, :, : place.shape[0], : place.shape[1]], picture.dtype)()
        assert result is not None
        return lambda: result

    @property
    def spare(self) -> int | None:
        """Bytes of ``memory`` that are left for pictures that wait before and behind the network; None without a limit,
        and for a GPU with its own memory."""
        if self._memory is None or has_own_memory(self.device):
            return None
        return max(0, self._memory - self._held) // _SPARE

    def pictures_at_once(self, height: int, width: int) -> int:
        """How many pictures (h, w) :meth:`begin_pictures` should get at once.

        Small pictures leave a GPU waiting for the next operation, so there some form a batch, as far as memory allows.
        A CPU is as fast with one. Pictures that are restored in tiles or with a self-ensemble are alone.
        """
        height, width = (self._multiple_above(size) for size in (height, width))
        if len(self._forms) > 1 or self._side(height, width, 0) is not None:
            return 1
        return self._parts_at_once(height, width)

    def begin_pictures(self, pictures: Sequence[NDArray], on_tile: OnTile | None = None) -> list[Callable[[], NDArray]]:
        """:meth:`begin_picture` for several pictures of one shape and type, at most :meth:`pictures_at_once`."""
        if len(pictures) > 1:
            height, width = (self._multiple_above(size) for size in pictures[0].shape[:2])
            (tile,) = tile_layout(height, width, max(height, width), 0).tiles()
            parts = [to_network(part_of(picture, tile), self.device) for picture in pictures]
            shape = [size * self.scale for size in pictures[0].shape[:2]]
            try:
                results = restored_together(self._restore, parts, len(parts))
                return [from_network(each[0, :, : shape[0], : shape[1]], pictures[0].dtype) for each in results]
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._restore_alone(len(pictures))
        return [self.begin_picture(picture, on_tile) for picture in pictures]

    def _parts_at_once(self, height: int, width: int) -> int:
        """How many equal parts of a picture, or pictures, the network gets in one batch."""
        if self.device.type == 'cpu' or self._is_alone:
            return 1
        self._measure_memory()
        pixels = min(_BUSY_PIXELS, self._budget / (self._bytes_per_pixel or 1))
        return max(1, int(pixels / (height * width)))

    def _restore_alone(self, count: int) -> None:
        self._is_alone = True
        self._note(f'Out of memory with {count} pictures at once; continued one by one.')
        self._free_memory()

    def _with_local_pooling(self, size: int | None) -> LocalPooling | None:
        if size is None:
            return None
        with self._uncompiled(True), _measuring('the poolings'):
            exact = None if self._is_float32 else inference_network(self._network, self.device)
            channels, multiple = self._shape.channels, self._shape.multiple
            local = LocalPooling(self._restore, size, channels=channels, multiple=multiple, exact=exact)
        name = type(self._network).__name__
        if not local.count:
            self._note(f'Local pooling has no effect: {name} has no pooling over the whole picture.')
            return None
        if local.left:
            self._note(f'{local.left} of the {local.count} poolings of {name} stay global: their layers take no map.')
        if self._compiled:
            self._note('The network runs without torch.compile, because its poolings are replaced by local ones.')
        self._shape = replace(self._shape, global_poolings=local.left)
        self._restore = local.wrapped()
        return local

    def _pieces(
        self, read: Read, height: int, width: int, on_tile: OnTile | None, picture_sizes: int
    ) -> Iterator[Piece]:
        """The finished pieces of a picture; after running out of memory all are yielded again, from smaller tiles."""
        height, width = (self._multiple_above(size) for size in (height, width))
        while True:
            layout = self._layout(height, width, picture_sizes)
            try:
                yield from self._attempt(layout, read, on_tile)
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                unsupported = may_be_unsupported(error)
            # outside the except block: there the error still holds the tensors of the pass
            if len(self._forms) > 1 and self._parts_at_once(*next(layout.tiles()).size) > 1:
                self._restore_alone(len(self._forms))
            else:
                self._shrink(layout, reason, unsupported=unsupported)

    def _attempt(self, layout: Layout, read: Read, on_tile: OnTile | None) -> Iterator[Piece]:
        shares_pooling = layout.count > 1 and self._shape.global_poolings > 0
        if shares_pooling and self._compiled:
            self._note('Tiles run without torch.compile, because they share poolings over the whole picture.')
        with self._uncompiled(shares_pooling or self._local is not None):
            at_once = self._parts_at_once(*next(layout.tiles()).size) if len(self._forms) > 1 else 1
            poolings = self._shape.global_poolings if shares_pooling else 0
            runs = TileRuns(self._restore, self._forms, poolings, at_once)
            yield from runs.pieces(layout, read, on_tile, self._grid() if layout.count > 1 else 1)
        if not runs.has_settled:
            self._note(
                'The means over the whole picture, which tiles share, did not converge in '
                f'{runs.passes} passes: seams of more than a quarter of a grey level may be visible.'
            )

    def _layout(self, height: int, width: int, picture_sizes: int) -> Layout:
        tile = self._side(height, width, picture_sizes)
        if tile is None or max(height, width) <= tile:
            return tile_layout(height, width, max(height, width), 0)
        grid, overlap = self._grid(), self._overlap()
        tile = max(tile, smallest_tile(0, grid))
        if self._local is not None and self._asked_overlap is None and self._largest is None:
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

    def _side(self, height: int, width: int, picture_sizes: int) -> int | None:
        """The largest allowed side of a tile; None for a whole picture."""
        if not isinstance(self._tile, str):
            sides = [side for side in (self._tile, self._largest) if side is not None]
            return min(sides) if sides else None
        self._measure_memory()
        assert self._bytes_per_pixel is not None
        budget = self._budget
        if not has_own_memory(self.device):
            budget -= picture_sizes + (self.spare or 0)
        pixels = budget / self._bytes_per_pixel
        if height * width <= pixels and self._largest is None:
            return None
        side = int(math.sqrt(max(0.0, pixels)))
        least = smallest_tile(self._overlap(), self._grid())
        if side < least and self._largest is None:
            needed = int(least * least * self._bytes_per_pixel) + (0 if has_own_memory(self.device) else picture_sizes)
            if self._memory is None:
                found = f'needs {memory_in_words(needed)}, and {memory_in_words(int(self._budget))} can be taken'
            else:
                found = (
                    f'needs {memory_in_words(self._held + needed)} in all, {memory_in_words(self._held)} of them held '
                    f'already by the program and the network, and {memory_in_words(self._memory)} are allowed'
                )
            raise RequestError(f'memory: a tile of {least} pixels {found}. Allow more, or free some.')
        return side if self._largest is None else min(side, self._largest)

    def _measure_memory(self) -> None:
        """Finds the bytes of a pixel and those that may be taken; once, because later figures depend on memory that the
        allocator keeps from earlier pictures."""
        if self._bytes_per_pixel is not None:
            return
        with self._uncompiled(True), _measuring('the bytes of a pixel'):
            # on a small picture large windows would cover all of it, and take no memory
            small = self._restore if self._local is None else self._local.wrapped(size=min(self._window, 16))
            self._bytes_per_pixel = (
                bytes_per_pixel(small, self.device, self.channels, self._shape.multiple)
                + 4 * 3 * self.channels * self.scale**2
            )  # blending, and rounding
        self._budget = free_memory(self.device) * SHARE if self._memory is None else self._memory - self._held

    def _shrink(self, layout: Layout, reason: str, *, unsupported: bool) -> None:
        before, least = max(max(tile.size) for tile in layout.tiles()), smallest_tile(0, self._grid())
        smaller = max(int(before * _SHRINKING), least) // self._shape.multiple * self._shape.multiple
        if smaller >= before and unsupported:
            raise WorkError(f'failed even with tiles of {before} pixels: {reason}{_UNSUPPORTED}')
        if smaller >= before:
            raise WorkError(f'out of memory even with tiles of {before} pixels: {reason}')
        self._largest = smaller
        self._note(f'Out of memory at {before} pixels; continued with tiles of at most {smaller}.')
        self._free_memory()

    def _free_memory(self) -> None:
        gc.collect()
        free_cached_memory(self.device)

    def _overlap(self) -> int:
        if self._asked_overlap is not None:
            return self._asked_overlap
        measured = self._measured()
        # three eighths of an overlap are discarded: at least half a window
        least = 0 if self._local is None else math.ceil(self._window * 4 / 3 / measured.grid) * measured.grid
        return max(measured.overlap, least)

    def _grid(self) -> int:
        return self._measured().grid

    def _measured(self) -> Reach:
        if self._reach is None:
            # float32, because rounding to bfloat16 exceeds the tolerance
            restore = self._restore
            if not self._is_float32:
                restore = inference_network(self._network, self.device)
                restore = restore if self._local is None else self._local.wrapped(restore)
            window = 0 if self._local is None else self._window
            with self._uncompiled(True), _measuring('the overlaps of tiles'):
                self._reach = measure_reach(restore, self._network, self._shape, window)
            if not self._reach.is_bounded:
                self._note(
                    'Every result pixel depends on the whole picture, in a way that tiles cannot share: seams may be '
                    'visible, and the result differs from that without tiles.'
                )
        return self._reach

    def _multiple_above(self, size: int) -> int:
        return math.ceil(size / self._shape.multiple) * self._shape.multiple

    def _uncompiled(self, wanted: bool) -> AbstractContextManager:
        return torch.compiler.set_stance('force_eager') if self._compiled and wanted else nullcontext()

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


@contextmanager
def _measuring(what: str) -> Iterator[None]:
    """Running out of memory in the block becomes a WorkError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if may_be_unsupported(error):
            raise WorkError(f'failed while {what} were measured on a small picture: {error}{_UNSUPPORTED}') from error
        raise WorkError(f'out of memory while {what} were measured on a small picture: {error}') from error


def _check_arguments(
    tile: int | str | None, overlap: int | None, memory: int | None, local_pooling: int | None
) -> None:
    if tile is not None and tile != 'auto' and (not isinstance(tile, int) or isinstance(tile, bool) or tile < 1):
        raise RequestError(f"tile: expected a number of pixels of at least 1, or 'auto', got {tile!r}.")
    if overlap is not None and overlap < 0:
        raise RequestError(f'overlap: expected a number of pixels of at least 0, got {overlap}.')
    is_number = isinstance(local_pooling, int) and not isinstance(local_pooling, bool)
    if local_pooling is not None and (not is_number or local_pooling < 1):
        raise RequestError(f'local_pooling: expected a number of pixels of at least 1, got {local_pooling!r}.')
    if memory is not None and memory < 1:
        raise RequestError(f'memory: expected a number of bytes of at least 1, got {memory}.')
    if memory is not None and tile != 'auto':
        raise RequestError(f"memory: has an effect only with tile: 'auto', not with tile: {tile}. Leave one out.")
