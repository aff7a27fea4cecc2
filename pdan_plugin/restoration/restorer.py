"""Restores pictures with a trained network: tiles, self-ensemble, number format, memory limit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.accelerators import free_cached_memory
from pdan_plugin.machine.algorithm_search import searching_algorithms
from pdan_plugin.machine.cuda_graphs import recorder_for
from pdan_plugin.machine.size_graphs import SizeGraphs
from pdan_plugin.machine.working_memory import is_out_of_memory, may_be_unsupported
from pdan_plugin.restoration.measured_network import UNSUPPORTED, MeasuredNetwork
from pdan_plugin.restoration.memory_budget import MemoryBudget
from pdan_plugin.restoration.picture_transfer import from_network, part_of, to_network
from pdan_plugin.restoration.self_ensemble import GEOMETRIC_FORMS, GeometricForm
from pdan_plugin.restoration.tile_runs import TileRuns, restored_together
from pdan_plugin.restoration.tile_sizes import TileSizes
from pdan_plugin.restoration.tiling import Layout, Piece, Tile, gather, reflected, smallest_tile, tile_layout

_MANY_TILES = 8  # of one size, from which on cuDNN's search for the fastest algorithms pays
_BUSY_PIXELS = 2**18  # of the input, a quarter of a million: enough work for a GPU at a time

Read = Callable[[Tile], Tensor]
OnTile = Callable[[int, int], None]


class Restorer:
    """Restores pictures of any size with one network.

    If the network accepts only multiples of a size, the picture is extended by reflection at the right and the bottom,
    and the result is cropped. The multiple is found by running the network on small inputs. A picture that is smaller
    than the network accepts is extended, too.

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
        cuda_graphs: Whether to record the work for sizes that come again and to replay it, on a CUDA device
            (:mod:`~pdan_plugin.machine.size_graphs`). Without effect with ``compiled``, and for tiles that share
            poolings.

    Attributes:
        scale: Height and width of the result, divided by those of the input.
        channels: Channels of the input.
        graphs: The recorded work; None without ``cuda_graphs``, and on other devices.
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
        cuda_graphs: bool = False,
    ) -> None:
        _check_arguments(tile, overlap, memory, local_pooling)
        self.device = torch.device(device)
        self.notes: list[str] = []
        self._forms = GEOMETRIC_FORMS if self_ensemble else (GeometricForm(),)
        self._compiled = compiled
        self._network = MeasuredNetwork(
            network,
            self.device,
            precision=precision,
            compiled=compiled,
            local_pooling=local_pooling,
            note=self._note,
        )
        shape = self._network.shape
        self.scale, self.channels = shape.scale, shape.channels
        self._budget = MemoryBudget(
            self.device,
            memory,
            self._network.memory,
            of_result=4 * self.channels * self.scale**2,
            has_forms=self_ensemble,
        )
        self._tiles = TileSizes(
            tile,
            overlap,
            multiple=shape.multiple,
            window=self._network.window,
            budget=self._budget,
            measure_reach=self._network.reach,
            note=self._note,
        )
        self._is_alone = False  # whether memory ran out with several pictures at once
        recorder = recorder_for(self.device) if cuda_graphs and not compiled else None
        self.graphs: SizeGraphs | None = None
        if recorder is not None:
            self.graphs = SizeGraphs(self._network.restore, recorder, fits=self._may_be_recorded, note=self._note)
        if isinstance(tile, int) and overlap is not None and tile < smallest_tile(overlap, shape.multiple):
            raise RequestError(
                f'tile: {tile} leaves no room for an overlap of {overlap}; expected at least '
                f'{smallest_tile(overlap, shape.multiple)}, or a smaller overlap.'
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
        if len(batch) == 1 or self._tiles.are_whole_pictures:
            return restored(batch)
        return torch.cat([restored(picture[None]) for picture in batch])

    def check_memory(self, height: int, width: int) -> None:
        """Checks whether the allowed memory suffices for a picture (h, w, c) of uint8, without restoring it.

        Raises:
            RequestError: The memory does not suffice, even with the smallest tiles.
        """
        picture_sizes = (self.scale**2 + 1) * height * width * self.channels
        self._tiles.side(self._network.extended(height), self._network.extended(width), picture_sizes)

    def memory_needed(self, height: int, width: int) -> int:
        """The estimated bytes of the work on a whole picture (h, w), beside the weights and the pictures."""
        return self._budget.of_whole(self._network.extended(height) * self._network.extended(width))

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
        return self._budget.spare

    def pictures_at_once(self, height: int, width: int) -> int:
        """How many pictures (h, w) :meth:`begin_pictures` should get at once.

        Small pictures leave a GPU waiting for the next operation, so there some form a batch, as far as memory allows.
        A CPU is as fast with one. Pictures that are restored in tiles or with a self-ensemble are alone.
        """
        height, width = (self._network.extended(size) for size in (height, width))
        if len(self._forms) > 1 or self._tiles.side(height, width, 0) is not None:
            return 1
        return self._parts_at_once(height, width)

    def begin_pictures(self, pictures: Sequence[NDArray], on_tile: OnTile | None = None) -> list[Callable[[], NDArray]]:
        """:meth:`begin_picture` for several pictures of one shape and type, at most :meth:`pictures_at_once`."""
        if len(pictures) > 1:
            height, width = (self._network.extended(size) for size in pictures[0].shape[:2])
            (tile,) = tile_layout(height, width, max(height, width), 0).tiles()
            parts = [to_network(part_of(picture, tile), self.device) for picture in pictures]
            shape = [size * self.scale for size in pictures[0].shape[:2]]
            try:
                results = restored_together(self.graphs or self._network.restore, parts, len(parts))
                return [from_network(each[0, :, : shape[0], : shape[1]], pictures[0].dtype) for each in results]
            except Exception as error:  # a network of another project may raise any
                is_short_of_memory = is_out_of_memory(error)
                if not is_short_of_memory and not self._network.least_if_below(min(height, width)):
                    raise
            if is_short_of_memory:
                self._restore_alone(len(pictures))
        return [self.begin_picture(picture, on_tile) for picture in pictures]

    def _parts_at_once(self, height: int, width: int) -> int:
        """How many equal parts of a picture, or pictures, the network gets in one batch."""
        if self.device.type == 'cpu' or self._is_alone:
            return 1
        return max(1, int(min(_BUSY_PIXELS, self._budget.pixels_at_once()) / (height * width)))

    def _may_be_recorded(self, shape: torch.Size) -> bool:
        return self._budget.allows_recording(shape[0] * shape[-2] * shape[-1])

    def _restore_alone(self, count: int) -> None:
        self._is_alone = True
        self._note(f'Out of memory with {count} pictures at once; continued one by one.')
        self._free_memory()

    def _pieces(
        self, read: Read, height: int, width: int, on_tile: OnTile | None, picture_sizes: int
    ) -> Iterator[Piece]:
        """The finished pieces of a picture; after running out of memory all are yielded again, from smaller tiles."""
        while True:
            extended = self._network.extended(height), self._network.extended(width)
            layout = self._tiles.layout(*extended, picture_sizes)
            try:
                yield from self._attempt(layout, read, on_tile)
                return
            except (RequestError, WorkError):
                raise
            except Exception as error:  # a network of another project may raise any
                if not is_out_of_memory(error):
                    side = min(min(tile.size) for tile in layout.tiles())
                    least = self._network.least_if_below(side)
                    if not least:
                        raise
                    if min(extended) >= least:
                        raise RequestError(
                            f'the network takes no tiles of {side} pixels ({error}); expected tiles of at least '
                            f'{2 * least}, or whole pictures.'
                        ) from error
                    continue  # with a picture that is extended further
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                unsupported = may_be_unsupported(error)
            # outside the except block: there the error still holds the tensors of the pass
            if self.graphs is not None and self.graphs.drop():
                continue  # tiles that share poolings run beside the recordings, whose memory may suffice
            if len(self._forms) > 1 and self._parts_at_once(*next(layout.tiles()).size) > 1:
                self._restore_alone(len(self._forms))
            else:
                self._shrink(layout, reason, unsupported=unsupported)

    def _attempt(self, layout: Layout, read: Read, on_tile: OnTile | None) -> Iterator[Piece]:
        shares_pooling = layout.count > 1 and self._network.shape.global_poolings > 0
        if shares_pooling and self._compiled:
            self._note('Tiles run without torch.compile, because they share poolings over the whole picture.')
        with (
            self._network.uncompiled(shares_pooling or self._network.local is not None),
            searching_algorithms(True) if layout.count >= _MANY_TILES else nullcontext(),
        ):
            at_once = self._parts_at_once(*next(layout.tiles()).size) if len(self._forms) > 1 else 1
            poolings = self._network.shape.global_poolings if shares_pooling else 0
            # a replay calls no functions, so poolings could not be shared in it
            restore = self._network.restore if shares_pooling else self.graphs or self._network.restore
            runs = TileRuns(restore, self._forms, poolings, at_once)
            yield from runs.pieces(layout, read, on_tile, self._tiles.grid if layout.count > 1 else 1)
        if not runs.has_settled:
            self._note(
                'The means over the whole picture, which tiles share, did not converge in '
                f'{runs.passes} passes: seams of more than a quarter of a grey level may be visible.'
            )

    def _shrink(self, layout: Layout, reason: str, *, unsupported: bool) -> None:
        before = max(max(tile.size) for tile in layout.tiles())
        smaller = self._tiles.shrink(before)
        if smaller is None and unsupported:
            raise WorkError(f'failed even with tiles of {before} pixels: {reason}{UNSUPPORTED}')
        if smaller is None:
            raise WorkError(f'out of memory even with tiles of {before} pixels: {reason}')
        self._note(f'Out of memory at {before} pixels; continued with tiles of at most {smaller}.')
        self._free_memory()

    def _free_memory(self) -> None:
        gc.collect()
        free_cached_memory(self.device)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _check_arguments(
    tile: int | str | None, overlap: int | None, memory: int | None, local_pooling: int | None
) -> None:
    if tile is not None and tile != 'auto' and not _is_whole(tile, 1):
        raise RequestError(f"tile: expected a number of pixels of at least 1, or 'auto', got {tile!r}.")
    if overlap is not None and not _is_whole(overlap, 0):
        raise RequestError(f'overlap: expected a number of pixels of at least 0, got {overlap!r}.')
    if local_pooling is not None and not _is_whole(local_pooling, 1):
        raise RequestError(f'local_pooling: expected a number of pixels of at least 1, got {local_pooling!r}.')
    if memory is not None and not _is_whole(memory, 1):
        raise RequestError(f'memory: expected a number of bytes of at least 1, got {memory!r}.')
    if memory is not None and tile != 'auto':
        raise RequestError(f"memory: has an effect only with tile: 'auto', not with tile: {tile}. Leave one out.")


def _is_whole(value: object, least: int) -> bool:
    """Callers in Python may give anything."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
