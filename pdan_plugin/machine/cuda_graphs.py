"""Records a network's work in CUDA graphs. Not yet run on a GPU: `scripts/gpu_acceptance.py --only graph` shows it."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from pdan_plugin.machine.accelerators import allocator_lock
from pdan_plugin.machine.size_graphs import Network, Recorder


def recorder_for(device: torch.device) -> Recorder | None:
    """A recorder for a device; None if it has no CUDA graphs. ROCm's, under the same name, have not been tried."""
    return CudaRecorder(device) if device.type == 'cuda' and torch.version.hip is None else None


class CudaRecorder:
    """Records CUDA graphs, one after the other in one process.

    The graphs of a recorder share their memory (a pool): they are replayed one at a time, on any stream.

    Args:
        device: A CUDA device.
        cuda: torch's module for it; tests give a mock.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device, self._cuda = device, cuda
        self._pool: Any = None
        self._stream: Any = None
        self._replayed: Any = None

    def record(self, network: Network, batch: Tensor) -> Network:
        """See :meth:`~pdan_plugin.machine.size_graphs.Recorder.record`."""
        cuda = self._cuda
        with allocator_lock, cuda.device(self._device), torch.inference_mode():
            if self._pool is None:
                self._pool, self._replayed = cuda.graph_pool_handle(), cuda.Event()
                self._stream = cuda.Stream(self._device)
            given = batch.to(self._device, copy=True)
            self._stream.wait_stream(cuda.current_stream(self._device))
            with cuda.stream(self._stream):
                network(given)  # libraries choose their algorithms, and allocate their workspaces for this stream
            cuda.synchronize(self._device)
            cuda.empty_cache()  # what the call left; the graph allocates apart from it
            graph = cuda.CUDAGraph()
            with cuda.stream(self._stream):
                output = self._captured(graph, network, given)
        replayed = self._replayed

        def replay(batch: Tensor) -> Tensor:
            with cuda.device(self._device), torch.inference_mode():
                stream = cuda.current_stream(self._device)
                stream.wait_event(replayed)  # the graphs have one memory, also if they are replayed on several streams
                given.copy_(batch)
                graph.replay()
                result = output.clone()
                replayed.record(stream)
            return result

        return replay

    def forget(self) -> None:
        """See :meth:`~pdan_plugin.machine.size_graphs.Recorder.forget`."""
        self._pool = None
        with allocator_lock:
            self._cuda.empty_cache()

    def _captured(self, graph: Any, network: Network, given: Tensor) -> Tensor:
        # other threads go on: they read pictures, wait for results, or use other devices
        graph.capture_begin(pool=self._pool, capture_error_mode='thread_local')
        try:
            output = network(given)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # it says again that the capture failed
                graph.capture_end()
            self._allocate_as_before()
            raise
        try:
            graph.capture_end()
        except BaseException:
            self._allocate_as_before()
            raise
        return output

    def _allocate_as_before(self) -> None:
        """After a failed capture: torch's allocator takes it for under way, and would not free memory any more."""
        bindings: Any = getattr(torch, '_C')  # noqa: B009 - there is no public function
        for name in ('_cuda_endAllocateToPool', '_cuda_endAllocateCurrentStreamToPool'):  # of newer and older torch
            end = getattr(bindings, name, None)
            if end is not None:
                with contextlib.suppress(RuntimeError):  # it is not under way
                    end(self._cuda.current_device(), self._pool)
                return
