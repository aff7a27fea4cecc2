"""How much memory a network's work on a picture takes, and how much it may take. `tile_sizes.py` decides with it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.accelerators import free_cached_memory, has_own_memory
from pdan_plugin.machine.memory import free_memory, held_memory
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.machine.working_memory import QUICK, SHARE, WorkingMemory

_SMALL = (96, 192)  # pixels: sides of squares that a GPU computes in no time
_LARGEST = 1024  # pixels: side of the largest square that is measured
_SPARE = 16  # share of an allowed memory for pictures that wait
# What an allocator on a CPU loses to gaps: a share of the work's memory, and no more than so many bytes, because large
# blocks come from the system one by one. Where each block is returned at once, PDAN, RCAN and SwinIR took 0.96 to 1.05
# times the bytes of their tensors; in glibc's heap up to 1.8 times, by chance. So the estimate, 1.75 times the tensors
# together with `working_memory`'s allowance, nearly always suffices.
_OF_GAPS, _GAPS = 0.25, 48 * 2**20
_RECORDED = 0.5  # share of the memory that recorded work may hold


class MemoryBudget:
    """The memory of one network on one device.

    The network is measured at the first question on small squares, which gives too much rather than too little for
    large pictures. When a picture would not fit, it is measured at two sizes up to the picture's; on a CPU without
    computing them, if the network's operations can be simulated.

    Args:
        device: The network's device.
        allowed: The most bytes that this process may use (on CUDA and xpu, of the device's memory); None for
            :data:`~pdan_plugin.machine.working_memory.SHARE` of the free memory.
        measure: Measures squares of these sides, simulated or not
            (:func:`~pdan_plugin.machine.working_memory.working_memory`). Raises a WorkError if memory runs out.
        of_result: Bytes of the float32 result for a pixel of the input.
        has_forms: Whether results of several forms are added.
    """

    def __init__(
        self,
        device: torch.device,
        allowed: int | None,
        measure: Callable[[Sequence[int], bool], WorkingMemory],
        *,
        of_result: int,
        has_forms: bool,
    ) -> None:
        self._device, self._allowed, self._measure = device, allowed, measure
        self._beside = 3 * of_result  # blending or a mean of forms, and rounding
        self._has_forms, self._is_fitted = has_forms, False
        self._working: WorkingMemory | None = None
        self._held, self._free = held_memory(device), 0.0

    @property
    def spare(self) -> int | None:
        """Bytes of the allowed memory that are left for pictures that wait before and behind the network; None without
        a limit, and for a GPU with its own memory."""
        if self._allowed is None or has_own_memory(self._device):
            return None
        return max(0, self._allowed - self._held) // _SPARE

    def fits(self, pixels: int, pictures: int) -> bool:
        """Whether a picture can be restored whole.

        Args:
            pixels: Of the input.
            pictures: Bytes of the picture and its result.
        """
        needed, left = self._needed(self.working, pixels), self._left_beside(pictures)
        if needed > left and not self._is_fitted:
            self._fit(pixels)
            needed = self._needed(self.working, pixels)
        return needed <= left

    def of_whole(self, pixels: int) -> int:
        """Bytes of the network's work on a whole picture, measured up to its size."""
        if not self._is_fitted:
            self._fit(pixels)
        return int(self._with_gaps(self._needed(self.working, pixels)))

    def side(self, pictures: int) -> int:
        """The side of the largest tile, which may be too small for the network (:meth:`require`)."""
        working = self.working
        return int(math.sqrt(working.pixels_in(self._left_beside(pictures), self._beside)))

    def require(self, least: int, pictures: int) -> None:
        """Checks whether a tile of ``least`` pixels fits.

        Raises:
            RequestError: It does not; the message has the figures.
        """
        if self.side(pictures) >= least:
            return
        needed = int(self._with_gaps(self.working.needed(least * least) + least * least * self._beside))
        needed += 0 if has_own_memory(self._device) else pictures
        if self._allowed is None:
            found = f'needs {memory_in_words(needed)}, and {memory_in_words(int(self._free))} can be taken'
        else:
            found = (
                f'needs {memory_in_words(self._held + needed)} in all, {memory_in_words(self._held)} of them held '
                f'already by the program and the network, and {memory_in_words(self._allowed)} are allowed'
            )
        raise RequestError(f'memory: a tile of {least} pixels {found}. Allow more, or free some.')

    def pixels_at_once(self) -> float:
        """The pixels of all pictures in a batch."""
        working = self.working
        return working.pixels_in(self._without_gaps(self._free), self._beside)

    def allows_recording(self, pixels: int) -> bool:
        """Whether recorded work, which holds its memory, leaves enough for other work."""
        working = self.working
        return working.needed(pixels) <= self._without_gaps(self._free) * _RECORDED

    @property
    def working(self) -> WorkingMemory:
        """The memory of the network as far as it was measured. What may be taken is found with it, once, because later
        figures depend on memory that the allocator keeps from earlier pictures."""
        if self._working is None:
            self._working = self._first()
            self._free = free_memory(self._device) * SHARE if self._allowed is None else self._allowed - self._held
        return self._working

    def _needed(self, working: WorkingMemory, pixels: int) -> float:
        if self._has_forms:
            return working.needed(pixels) + self._beside * pixels
        return max(working.needed(pixels), self._beside * pixels)  # rounded when the network's memory is free again

    def _left_beside(self, pictures: int) -> float:
        if has_own_memory(self._device):
            return self._free
        return self._without_gaps(self._free - pictures - (self.spare or 0))

    def _with_gaps(self, tensors: float) -> float:
        """The memory of work whose tensors take so many bytes."""
        return tensors + min(_GAPS, _OF_GAPS * tensors) if self._device.type == 'cpu' else tensors

    def _without_gaps(self, size: float) -> float:
        """The bytes of tensors that ``size`` bytes suffice for: the inverse of :meth:`_with_gaps`."""
        return max(size - _GAPS, size / (1 + _OF_GAPS)) if self._device.type == 'cpu' else size

    def _fit(self, pixels: int) -> None:
        """Finds the memory at two sizes up to that of a picture, for the picture itself and for tiles of it."""
        self._is_fitted = True
        quick = self.working
        side = min(_LARGEST, math.isqrt(pixels))
        if self._device.type == 'cpu':
            with contextlib.suppress(Exception):  # a network of another project may need values, and raise any
                self._working = _bounded(self._measure((side // 2, side), True), quick)
                return
            side = 2 * QUICK[0]
        while side >= 2 * QUICK[0]:
            try:
                self._working = _bounded(self._measure((side // 2, side), False), quick)
                return
            except WorkError:  # out of memory; what was measured before stays
                free_cached_memory(self._device)
                side //= 2

    def _first(self) -> WorkingMemory:
        """The memory of small pictures, which is too much rather than too little for large ones."""
        if self._device.type != 'cpu':
            with contextlib.suppress(WorkError):
                return self._measure(_SMALL, False)
            free_cached_memory(self._device)
        return self._measure(QUICK, False)


def _bounded(fitted: WorkingMemory, quick: WorkingMemory) -> WorkingMemory:
    return replace(fitted, steepest=quick.of_pixel) if quick.fixed == 0 else fitted
