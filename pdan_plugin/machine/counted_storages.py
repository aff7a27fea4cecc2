"""Counting the memory of the tensors that operations make."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CountedStorages(TorchDispatchMode):
    """The bytes of all storages that operations make while it is active, until each is freed.

    What was there before is not counted, nor what an operation returns of its arguments. A subclass may part the
    storages into kinds and look at the count after each operation.

    Attributes:
        held: Bytes now, by kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: Counter[Hashable] = Counter()
        self._alive: dict[int, weakref.ref] = {}

    def kind_of(self, tensor: Tensor) -> Hashable:
        """The kind of a new storage, by the tensor that an operation returned with it."""
        return None

    def after_operation(self) -> None:
        """Called after each operation that returned a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        returned = [value for value in tree_leaves(result) if _has_storage(value)]
        new = [value for value in returned if value.untyped_storage()._cdata not in self._alive]
        if new:
            given = {value.untyped_storage()._cdata for value in tree_leaves((args, kwargs)) if _has_storage(value)}
            for value in new:
                if value.untyped_storage()._cdata not in given:
                    self._count(value)
        if returned:
            self.after_operation()
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._alive:  # one that an operation returned twice
            return
        kind = self.kind_of(tensor)

        def freed(_: weakref.ref) -> None:
            del self._alive[address]
            self.held[kind] -= size

        self._alive[address] = weakref.ref(storage, freed)
        self.held[kind] += size


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided
