"""Replays a network's recorded work for input sizes that come again, so that the host does not launch every kernel.

A deep network launches thousands of small kernels for a small picture, and a GPU waits for the host between them. A
recording (a CUDA graph) launches all of them at once. It holds for one size of the input.

Nothing here depends on a device: a :class:`Recorder` records and replays (:mod:`~pdan_plugin.machine.cuda_graphs`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pdan_plugin.machine.working_memory import is_out_of_memory

Network = Callable[[Tensor], Tensor]

AGREEMENT = 0.25 / 255  # of the largest value, and at least of 1: a quarter of a grey level
_SEEN_BEFORE = 2  # times that a size comes before it is recorded
_MOST = 8  # recordings at a time
_IDLE = 64  # calls without a recording's size, after which it makes room for another one
_MOST_SIZES = 256  # of which the number of calls is remembered

# operations that wait for the device, because the host needs a value
_WAITING = frozenset(
    f'aten::{name}'
    for name in (
        '_local_scalar_dense', '_unique2', 'bincount', 'equal', 'masked_select', 'nonzero', 'unique_consecutive',
        'unique_dim',
    )
)  # fmt: skip
_COPYING = frozenset(('aten::_to_copy', 'aten::copy_'))
_INDEXING = frozenset(('aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_'))


class NotRecordable(RuntimeError):
    """A network's work cannot be recorded."""


class Recorder(Protocol):
    """Records a network's work on a device."""

    def record(self, network: Network, batch: Tensor) -> Network:
        """The work for batches of this shape and type, as a function of such a batch.

        The network is called once as warm-up and once while its work is recorded. Each result of the function is a
        tensor of its own. Results are complete for later work on the same stream.

        Raises:
            Exception: The work cannot be recorded. The device can be used as before.
        """
        ...

    def forget(self) -> None:
        """Frees what recordings share. Called when all of them have been dropped."""
        ...


@dataclass
class _Recording:
    replay: Network
    held: list[Tensor]  # what the recorded work reads, beside its input and the network's parameters
    last_use: int
    is_checked: bool = False


class SizeGraphs:
    """A network whose work is recorded for sizes that come again.

    The first batch of a size runs as always. With the second the work is recorded. The third is replayed and also run
    as always, and the two results are compared: if they differ by more than :data:`AGREEMENT`, nothing is replayed any
    more. From the fourth on it is replayed alone. If a network cannot be recorded, if memory runs out, or if results
    differ, everything runs as always from then on, and one note says so.

    The network must compute the same from the same values: no random numbers, no choice by values on the host.

    Args:
        network: Maps a batch to a result; its parameters stay where they are while this is used.
        recorder: Records on the network's device.
        fits: Whether memory allows a recording for a shape.
        note: Called with messages for the user.
    """

    def __init__(
        self,
        network: Network,
        recorder: Recorder,
        *,
        fits: Callable[[torch.Size], bool] = lambda shape: True,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._network, self._recorder, self._fits, self._note = network, recorder, fits, note
        self._recordings: dict[tuple[Any, ...], _Recording] = {}
        self._seen: OrderedDict[tuple[Any, ...], int] = OrderedDict()
        self._calls, self._is_off = 0, False
        self._lock = threading.RLock()  # a recording has one place for its input

    @property
    def count(self) -> int:
        """The number of recordings."""
        return len(self._recordings)

    @property
    def checked(self) -> int:
        """The number of recordings whose first result was compared and agreed."""
        return sum(each.is_checked for each in self._recordings.values())

    def __call__(self, batch: Tensor) -> Tensor:
        with self._lock:
            if self._is_off:
                return self._network(batch)
            try:
                return self._restored(batch)
            except (MemoryError, RuntimeError) as error:
                if not self._recordings or not is_out_of_memory(error):
                    raise
            # outside the except block: there the error still holds tensors
            self.drop()
            return self._network(batch)

    def drop(self) -> bool:
        """Drops all recordings, because memory is short. If there were any, nothing is recorded afterwards.

        Returns:
            Whether there were any, so that memory has become free.
        """
        with self._lock:
            had_any = bool(self._recordings)
            if had_any:
                self._turn_off('memory is short')
        return had_any

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        self._recordings.clear()
        self._recorder.forget()
        self._note(f'CUDA graphs are off: {reason}.')

    def _restored(self, batch: Tensor) -> Tensor:
        self._calls += 1
        key = (*batch.shape, batch.dtype)
        recording = self._recordings.get(key)
        if recording is None:
            is_wanted = self._comes_again(key) and self._fits(batch.shape) and self._has_room()
            result = self._network(batch)
            if is_wanted:
                self._record(key, batch)
            return result
        recording.last_use = self._calls
        result = recording.replay(batch)
        if recording.is_checked:
            return result
        expected = self._network(batch)
        if _agree(result, expected):
            recording.is_checked = True
        else:
            self._turn_off('a replayed result differs from the usual one by more than a quarter of a grey level')
        return expected

    def _comes_again(self, key: tuple[Any, ...]) -> bool:
        count = self._seen[key] = self._seen.pop(key, 0) + 1
        if len(self._seen) > _MOST_SIZES:
            self._seen.popitem(last=False)
        return count >= _SEEN_BEFORE

    def _has_room(self) -> bool:
        """Whether there is room for another recording; one that has not been used for long makes room."""
        if len(self._recordings) < _MOST:
            return True
        key, oldest = min(self._recordings.items(), key=lambda item: item[1].last_use)
        if self._calls - oldest.last_use <= _IDLE:
            return False
        del self._recordings[key]
        self._seen.pop(key, None)
        return True

    def _record(self, key: tuple[Any, ...], batch: Tensor) -> None:
        held: list[Tensor] = []

        def watched(given: Tensor) -> Tensor:
            with _Watch(given) as watch:
                result = self._network(given)
            held[:] = watch.held.values()
            return result

        try:
            replay = self._recorder.record(watched, batch)
        except Exception as error:  # drivers and libraries have errors of their own; the usual way works
            memory = isinstance(error, (MemoryError, RuntimeError)) and is_out_of_memory(error)
            reason = 'memory is short' if memory else f'the network cannot be recorded ({_first_line(error)})'
        else:
            self._recordings[key] = _Recording(replay, held, self._calls)
            return
        self._turn_off(reason)


def _agree(result: Tensor, expected: Tensor) -> bool:
    result, expected = result.detach(), expected.detach()
    largest = float(torch.nan_to_num(expected).abs().max())
    return torch.allclose(result, expected, rtol=0, atol=AGREEMENT * max(1.0, largest), equal_nan=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [''])[0].rstrip('.') or type(error).__name__


class _Watch(TorchDispatchMode):
    """Looks at the operations of a network's call.

    A recording reads the same memory at every replay. A tensor that the network keeps between calls, such as a mask for
    the last size, must therefore stay, even if the network replaces it.

    Attributes:
        held: The tensors that were read and not made in the call, without its input.

    Raises:
        NotRecordable: An operation waits for the device, or copies between the host and the device.
    """

    def __init__(self, given: Tensor) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.held: dict[int, Tensor] = {}
        self._known = {_address(given)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:  # in inference mode operations arrive whole; this runs those of which one is made
            result = func.decompose(*args, **(kwargs or {}))
        if result is not NotImplemented:
            return result
        name = func._schema.name
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if name in _WAITING or (name in _INDEXING and any(each.dtype == torch.bool for each in given[1:])):
            raise NotRecordable(f'{name} waits for a value on the host')
        for each in given:
            if _address(each) not in self._known:
                self.held[_address(each)] = each
        result = func(*args, **(kwargs or {}))
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        # operations take a single number from the host without a copy
        kinds = {each.device.type for each in (*given, *made) if each.dim() > 0 or name in _COPYING}
        if len(kinds) > 1:
            raise NotRecordable(f'{name} copies between {" and ".join(sorted(kinds))}')
        self._known.update(_address(each) for each in made if _address(each) not in self.held)
        return result


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
