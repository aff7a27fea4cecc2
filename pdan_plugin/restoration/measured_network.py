"""A network that is prepared for inference, and what is measured on it: sizes, reach, memory, poolings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import nn

from pdan_plugin.errors import WorkError
from pdan_plugin.machine.accepted_sizes import least_size, smallest_tried
from pdan_plugin.machine.working_memory import WorkingMemory, is_out_of_memory, may_be_unsupported, working_memory
from pdan_plugin.restoration.inference_network import inference_network
from pdan_plugin.restoration.local_pooling import LocalPooling
from pdan_plugin.restoration.memory_layout import in_faster_layout, layouts_differ
from pdan_plugin.restoration.receptive_field import Reach, measure_reach, network_shape

UNSUPPORTED = (
    ' (cuDNN says so when memory is short, and when the GPU has no such convolution in this number format; with '
    '--precision fp32 every GPU has it)'
)


class MeasuredNetwork:
    """One network on one device. Everything but the accepted sizes is measured when it is asked for.

    Args:
        network: Any arch that maps a picture (1, c, h, w) to one of the same size or larger.
        precision, compiled: See :func:`~pdan_plugin.restoration.inference_network.inference_network`.
        local_pooling: Side, in pixels of the input, of the windows that replace the network's poolings over the whole
            picture; None for no change.
        note: Called with messages for the user.

    Attributes:
        restore: (b, c, h, w) float32 -> (b, c, s * h, s * w) float32 on the device, without gradients.
        shape: Channels, scale and multiple of the network, and how many poolings over the whole picture it has.
        window: Side of the windows of local pooling; 0 without it.

    Raises:
        RequestError: the network does not restore pictures, or not in this precision.
        WorkError: out of memory on a small picture.
    """

    def __init__(
        self,
        network: nn.Module,
        device: torch.device,
        *,
        precision: str,
        compiled: bool,
        local_pooling: int | None,
        note: Callable[[str], None],
    ) -> None:
        self._network, self._device, self._precision, self._compiled = network, device, precision, compiled
        self._note = note
        self._least = 0  # the smallest side that the network accepts, once a picture was too small
        self.restore = inference_network(network, device, precision=precision, compiled=compiled)
        with self.uncompiled(True), _measuring('the accepted sizes'):
            self.shape = network_shape(self.restore, network)
        if layouts_differ(device, precision, compiled=compiled):
            self.restore = in_faster_layout(
                self.restore, network, device, channels=self.shape.channels, multiple=self.shape.multiple
            )
        self.local = None if local_pooling is None else self._with_local_pooling(local_pooling)
        self.window = 0 if self.local is None else local_pooling or 0

    def extended(self, size: int) -> int:
        """The side of a picture of this side as the network accepts it."""
        return math.ceil(max(size, self._least) / self.shape.multiple) * self.shape.multiple

    def least_if_below(self, side: int) -> int:
        """The smallest side that the network accepts, if this one is below it, else 0.

        To be asked after the network failed with a picture of this side: the smallest side is measured then, and
        :meth:`extended` respects it from then on.
        """
        if side >= smallest_tried(self.shape.multiple):
            return 0
        if not self._least:
            with self.uncompiled(True), _measuring('the accepted sizes'):
                self._least = least_size(self.restore, self.shape.channels, self.shape.multiple)
        return self._least if side < self._least else 0

    def reach(self) -> Reach:
        """How far the pixels of the input reach in the result, which decides the overlap of tiles."""
        # float32, because rounding to bfloat16 exceeds the tolerance
        restore = self.restore
        if self._precision != 'fp32':
            restore = inference_network(self._network, self._device)
            restore = restore if self.local is None else self.local.wrapped(restore)
        with self.uncompiled(True), _measuring('the overlaps of tiles'):
            reach = measure_reach(restore, self._network, self.shape, self.window)
        if not reach.is_bounded:
            self._note(
                'Every result pixel depends on the whole picture, in a way that tiles cannot share: seams may be '
                'visible, and the result differs from that without tiles.'
            )
        return reach

    def memory(self, sides: Sequence[int], simulated: bool) -> WorkingMemory:
        """The memory of the work on squares of these sides; ``simulated``: without computing them.

        Raises:
            WorkError: out of memory, or the network cannot be simulated.
        """
        if simulated and any(hasattr(type(each), '__deepcopy__') for each in self._network.modules()):
            raise WorkError('the network cannot be copied')  # it would keep what has no values
        with self.uncompiled(True), _measuring('the bytes of a pixel'):
            # a copy, because some networks keep tensors of their last input
            restore = inference_network(self._network, self._device, precision=self._precision) if simulated else None
            # on a small picture large windows would cover all of it, and take no memory
            small = restore or self.restore
            if self.local is not None:
                small = self.local.wrapped(restore, size=min(self.window, 16))
            return working_memory(
                small, self._device, self.shape.channels, self.shape.multiple, sides, simulated=simulated
            )

    def uncompiled(self, wanted: bool) -> AbstractContextManager:
        """In the block, a compiled network runs as it was written, if that is wanted."""
        return torch.compiler.set_stance('force_eager') if self._compiled and wanted else nullcontext()

    def _with_local_pooling(self, size: int) -> LocalPooling | None:
        with self.uncompiled(True), _measuring('the poolings'):
            exact = None if self._precision == 'fp32' else inference_network(self._network, self._device)
            channels, multiple = self.shape.channels, self.shape.multiple
            local = LocalPooling(self.restore, size, channels=channels, multiple=multiple, exact=exact)
        name = type(self._network).__name__
        if not local.count:
            self._note(f'Local pooling has no effect: {name} has no pooling over the whole picture.')
            return None
        if local.left:
            self._note(f'{local.left} of the {local.count} poolings of {name} stay global: their layers take no map.')
        if self._compiled:
            self._note('The network runs without torch.compile, because its poolings are replaced by local ones.')
        self.shape = replace(self.shape, global_poolings=local.left)
        self.restore = local.wrapped()
        return local


@contextmanager
def _measuring(what: str) -> Iterator[None]:
    """Running out of memory in the block becomes a WorkError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if may_be_unsupported(error):
            raise WorkError(f'failed while {what} were measured on a small picture: {error}{UNSUPPORTED}') from error
        raise WorkError(f'out of memory while {what} were measured on a small picture: {error}') from error
