"""Counts the memory of tensors that operations create."""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class CountedStorages(TorchDispatchMode):
    """Counts the bytes of storages that operations create while it is active, until each is freed.

    Older storages, and arguments that an operation returns, are not counted. A subclass may divide storages into kinds
    and read the count after each operation.

    Attributes:
        held: Current bytes, by kind.
        is_hidden: Whether torch.compile leaves the counting alone.
    """

    is_hidden = False

    def __init__(self) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.held: Counter[Hashable] = Counter()
        self._alive: dict[int, weakref.ref[UntypedStorage]] = {}
        if 'torch._dynamo' in sys.modules:
            _hide_from_compiler()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not at once: torch would import all of `torch._dynamo` at the first operation, which takes seconds."""
        return False

    def kind_of(self, tensor: Tensor) -> Hashable:
        """The kind of a new storage, given the returned tensor that uses it."""
        return None

    def after_operation(self) -> None:
        """Called after each operation that returned a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        returned = [value for value in tree_leaves(result) if _has_storage(value)]
        new = [value for value in returned if _address(value.untyped_storage()) not in self._alive]
        if new:
            given = {_address(value.untyped_storage()) for value in tree_leaves((args, kwargs)) if _has_storage(value)}
            for value in new:
                if _address(value.untyped_storage()) not in given:
                    self._count(value)
        if returned:
            self.after_operation()
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = _address(storage), storage.nbytes()
        if address in self._alive:  # the operation returned it twice
            return
        kind = self.kind_of(tensor)

        def freed(_: weakref.ref[UntypedStorage]) -> None:
            del self._alive[address]
            self.held[kind] -= size

        self._alive[address] = weakref.ref(storage, freed)
        self.held[kind] += size


def _hide_from_compiler() -> None:
    """Makes torch.compile leave the counting alone, as torch does for other modes since it has this method."""
    if hasattr(TorchDispatchMode, '_should_skip_dynamo') and not CountedStorages.is_hidden:
        compiler: Any = torch.compiler
        CountedStorages.__torch_dispatch__ = compiler.disable(CountedStorages.__torch_dispatch__)
        CountedStorages.is_hidden = True


def _address(storage: UntypedStorage) -> int:
    return storage._cdata  # pyright: ignore[reportPrivateUsage]


def _has_storage(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided
