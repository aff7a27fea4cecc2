"""Memory of a network's forward pass, and recognition of out-of-memory errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pdan_plugin.machine.accelerators import device_module, reports_peak_memory, synchronize
from pdan_plugin.machine.counted_storages import CountedStorages

SHARE = 0.8  # of the free memory; the rest is for other allocations and other programs
QUICK = (48,)  # pixels: the side of a square whose memory is found in no time
_OF_ALLOCATIONS = 1.25  # allowance for gaps between torch's allocations
_OF_TENSORS = 1.4  # allowance for copies that convolution libraries make beside torch's tensors, and for gaps


@dataclass(frozen=True)
class WorkingMemory:
    """The memory of a network's forward pass, without the weights: a line, bounded for small pictures.

    Attributes:
        fixed, of_pixel: Bytes for any picture (workspaces, parts of a picture that are computed one after another), and
            bytes that each pixel of the input adds.
        least: Bytes that the smaller of two measured pictures took; smaller pictures take no more.
        steepest: Bytes of a pixel of a very small picture, where nothing is computed in parts.
    """

    fixed: float
    of_pixel: float
    least: float = 0.0
    steepest: float = math.inf

    def needed(self, pixels: float) -> float:
        """Bytes for an input of so many pixels."""
        return min(self.steepest * pixels, max(self.least, self.fixed + self.of_pixel * pixels))

    def pixels_in(self, size: float, further: float = 0.0) -> float:
        """The pixels of an input that ``size`` bytes suffice for, if each takes ``further`` bytes beside the work."""
        on_line = (size - self.fixed) / (self.of_pixel + further)
        if further:
            on_line = min(on_line, (size - self.least) / further)
        return max(0.0, on_line if size >= self.least else 0.0, size / (self.steepest + further))


def working_memory(
    restore: Callable[[Tensor], Tensor],
    device: torch.device,
    channels: int,
    multiple: int,
    sides: Sequence[int] = QUICK,
    *,
    simulated: bool = False,
) -> WorkingMemory:
    """Measures the memory of restoring on squares of noise.

    With one side it is taken as proportional to the area. That is too much for large pictures if a network has fixed
    parts: on a GPU a PDAN computes its last layers in bands of rows, and workspaces are used. With two sides it is the
    line through both. If the line would start below 0, because memory grows faster than the area, the larger square
    counts alone.

    On CUDA and xpu it is the peak of torch's allocations, and a quarter is added. Elsewhere it is the peak of the
    tensors that operations create, and four tenths are added.

    Args:
        sides: Of one or two squares, in pixels, rising; each is extended to the next multiple.
        simulated: Whether the operations only give their shapes (torch's fake tensors), which takes no memory and for
            large squares less time. For devices where the tensors are counted.

    Raises:
        MemoryError, RuntimeError: Out of memory, as raised by the network.
        Exception: With ``simulated``, the network needs values.
    """
    allowance = _OF_ALLOCATIONS if reports_peak_memory(device) else _OF_TENSORS
    areas: list[int] = []
    peaks: list[float] = []
    least = 0.0
    for side in sides:
        side = -(-side // multiple) * multiple
        shape = (1, channels, side, side)
        peak, size_of_result = _simulated(restore, shape) if simulated else _peak(restore, shape, device)
        areas.append(side * side)
        peaks.append(peak * allowance)
        least = max(1.0, size_of_result / areas[-1])  # the result itself
    if len(set(areas)) > 1:
        of_pixel = max(least, (peaks[-1] - peaks[0]) / (areas[-1] - areas[0]))
        fixed = peaks[-1] - of_pixel * areas[-1]
        if fixed >= 0:
            return WorkingMemory(fixed, of_pixel, least=peaks[0])
    return WorkingMemory(0.0, max(least, peaks[-1] / areas[-1]))


def _simulated(restore: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> tuple[int, int]:
    """Like :func:`_peak`, without computing."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # only here: it is imported slowly

    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = torch.empty(shape)
        with _PeakOfStorages() as counted:
            result = restore(batch)
        return counted.peak, result.nbytes


def _peak(restore: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device) -> tuple[int, int]:
    """Bytes at the peak of a forward pass, and bytes of its result."""
    batch = torch.rand(shape, generator=torch.Generator())  # the program's random numbers stay
    if not reports_peak_memory(device):
        with _PeakOfStorages() as counted:
            result = restore(batch)
        return counted.peak, result.nbytes
    statistics = device_module(device)
    result = restore(batch)  # the first run also allocates workspaces and cast weights, which stay
    size_of_result = result.nbytes
    del result
    synchronize(device)
    statistics.reset_peak_memory_stats(device)
    before = statistics.memory_allocated(device)
    restore(batch)
    synchronize(device)
    return statistics.max_memory_allocated(device) - before, size_of_result


# in an error's lower-case text: memory, in the words of torch, CUDA, cuDNN, cuBLAS and their likes on ROCm and xpu
_MEMORY = (
    'not enough memory',
    'out of memory',
    "can't allocate memory",
    'cannot allocate memory',
    'bad_alloc',
    'alloc_failed',  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED, HIPBLAS_STATUS_ALLOC_FAILED ...
    'allocation_failed',  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    'miopenstatusallocfailed',
    'out_of_device_memory',
    'out_of_host_memory',
    'out_of_resources',
)
# cuDNN found no way to compute a convolution: none fits into the memory, or none exists for this device and format
_NO_WAY = (
    'unable to find an engine',
    'unable to find a valid cudnn algorithm',
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of a forward pass means that the device or the machine is out of memory, or may mean it.

    cuDNN finds no way to compute a convolution when the memory is short, and also when it has none for the device and
    the number format (:func:`may_be_unsupported`). A smaller input shows which.
    """
    return is_surely_out_of_memory(error) or may_be_unsupported(error)


def is_surely_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is short, and nothing else."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY)


def may_be_unsupported(error: BaseException) -> bool:
    """Whether an error of cuDNN means short memory or a convolution that the device does not have."""
    if is_surely_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _NO_WAY)


class _PeakOfStorages(CountedStorages):
    """``peak`` is the maximum of the counted bytes."""

    peak = 0

    def after_operation(self) -> None:
        self.peak = max(self.peak, self.held.total())
