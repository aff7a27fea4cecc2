"""A CUDA device that is pretended: its tensors have shapes and no values. Counts how often the host waits for it.

torch's FakeTensorMode computes the shapes; asked for a value it would raise. Here the question is counted and answered
with a chosen number, so that a whole training step can run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten


class HostReads(TorchDispatchMode):
    """``reads`` has a line for each operation in which the host waits for the device."""

    def __init__(self, answer: float = 1.0) -> None:
        super().__init__()
        self.answer, self.reads = answer, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (ATEN._local_scalar_dense.default, ATEN.is_nonzero.default, ATEN.equal.default):
            if args[0].device.type == 'cuda':
                self.reads.append(str(func))
            return bool(self.answer) if func is not ATEN._local_scalar_dense.default else self.answer
        if func in (ATEN.nonzero.default, ATEN.masked_select.default, ATEN.unique_dim.default):
            raise AssertionError(f'{func}: its size depends on values')
        if func is ATEN._fused_sgd_.default:
            return None  # FakeTensorMode does not know it
        if func is ATEN.copy_.default and (args[0].device.type, args[1].device.type) == ('cpu', 'cuda'):
            self.reads += [str(func)] * (True not in args[2:] and not kwargs.get('non_blocking'))
        result = func(*args, **kwargs)
        if func is ATEN._to_copy.default and args[0].device.type == 'cuda' and result.device.type == 'cpu':
            self.reads.append(str(func))
        return result


class PretendedStream:
    """Records in ``order`` when an event is recorded on the stream and when the host waits for it."""

    def __init__(self, order: list[str]) -> None:
        self.order, self.events = order, 0

    def record_event(self) -> PretendedStream._Event:
        self.events += 1
        self.order.append(f'event {self.events} recorded')
        return self._Event(self.order, self.events)

    class _Event:
        def __init__(self, order: list[str], number: int) -> None:
            self.order, self.number = order, number

        def synchronize(self) -> None:
            self.order.append(f'event {self.number} awaited')


def give_gradients(loss: torch.Tensor) -> None:
    """In place of the backward pass, for which autograd asks the driver: each parameter of the loss gets a gradient."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        if hasattr(node, 'variable'):
            gradient = torch.zeros_like(node.variable)
            node.variable.grad = gradient if node.variable.grad is None else node.variable.grad + gradient


@contextmanager
def pretended_cuda(answer: float = 1.0) -> Iterator[tuple[HostReads, list[str]]]:
    """Inside, tensors may be on 'cuda' on any machine. Yields what the host reads, and the order of backward passes,
    recorded events and waits for them.

    Networks cannot be moved there: build them within `torch.device('cuda')`.
    """
    order: list[str] = []
    stream = PretendedStream(order)
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), HostReads(answer) as reads:
        patch.setattr(torch.cuda, 'current_stream', lambda device=None: stream)
        patch.setattr(torch.Tensor, 'backward', lambda loss: (order.append('backward'), give_gradients(loss)))
        patch.setattr(nn.Module, 'to', lambda module, *args, **kwargs: module)  # which pretended parameters do not know
        yield reads, order


def needs_a_driver() -> bool:
    """Whether this torch asks the driver even for pretended tensors, as 2.8 does."""
    try:
        with pretended_cuda(), torch.device('cuda'):
            nn.Conv2d(3, 3, 1)
    except RuntimeError as error:
        return 'driver' in str(error)
    return False
