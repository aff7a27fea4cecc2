"""A mock of `torch.cuda` for CUDA graphs: the work of the CPU is recorded, and done again into the same tensors."""

import threading
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MockCuda:
    """What :class:`~pdan_plugin.machine.cuda_graphs.CudaRecorder` uses of `torch.cuda`.

    Args:
        fails: 'begin', 'inside' or 'end': where a capture fails.
        error: The error.

    Attributes:
        captures: Captures that were begun.
        replays: Replays of all graphs.
        is_capturing: Whether a capture is under way.
    """

    under_way = threading.Lock()  # torch allows one capture at a time in a process

    def __init__(self, fails=None, error=None):
        self.fails, self.error = fails, error or RuntimeError('CUDA error: operation not permitted when capturing')
        self.captures = self.replays = 0
        self.is_capturing = False
        self.current = self.usual = MockStream()
        self.Event, self.Stream = MockEvent, lambda device: MockStream()

    def CUDAGraph(self):
        return MockGraph(self)

    def graph_pool_handle(self):
        return (0, 1)

    def device(self, device):
        return nullcontext()

    def current_device(self):
        return 0

    def current_stream(self, device):
        return self.current

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def synchronize(self, device):
        assert not self.is_capturing

    def empty_cache(self):
        assert not self.is_capturing


class MockStream(SimpleNamespace):
    def wait_stream(self, other):
        assert other is not self

    def wait_event(self, event):
        event.waited = True


class MockEvent(SimpleNamespace):
    def record(self, stream):
        self.recorded = stream


class MockGraph(TorchDispatchMode):
    """A mock of `torch.cuda.CUDAGraph`: Python runs once, and a replay repeats the operations on the same tensors."""

    def __init__(self, cuda):
        super().__init__()
        self.cuda, self.log = cuda, []

    def capture_begin(self, pool, capture_error_mode):
        self.cuda.captures += 1
        assert pool == (0, 1)
        assert capture_error_mode == 'thread_local'
        assert not self.cuda.is_capturing
        assert self.cuda.current is not self.cuda.usual, 'a capture needs a stream of its own'
        if self.cuda.fails == 'begin':
            raise self.cuda.error
        assert MockCuda.under_way.acquire(blocking=False), 'two captures at the same time'
        self.cuda.is_capturing = True
        self.__enter__()

    def capture_end(self):
        if self.cuda.is_capturing:
            self.__exit__(None, None, None)
            MockCuda.under_way.release()
        self.cuda.is_capturing = False
        if self.cuda.fails in ('inside', 'end'):
            raise self.cuda.error

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if self.cuda.fails == 'inside':
            raise self.cuda.error
        result = func(*args, **(kwargs or {}))
        self.log.append((func, args, kwargs or {}, result))
        return result

    def replay(self):
        assert not self.cuda.is_capturing
        self.cuda.replays += 1
        for func, args, kwargs, result in self.log:
            again = func(*args, **kwargs)
            for kept, new in zip(_tensors(result), _tensors(again), strict=True):
                if kept.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():  # else a view, or in place
                    kept.copy_(new)


def _tensors(values):
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
