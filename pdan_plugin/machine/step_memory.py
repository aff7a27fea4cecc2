"""Peak memory of one training step, found without computing the step.

The step runs on tensors with shapes but no values. The bytes of every tensor are counted from its creation to its last
reference: tensors kept for the backward pass, gradients, and temporary results.
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from pdan_plugin.machine.counted_storages import CountedStorages
from pdan_plugin.machine.precision import autocast

_SMALL = 24  # pixels: side of the crop that is computed if the requested size fails without values


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step in addition to weights, optimizer and moving average.

    Attributes:
        kept: At the end of the forward pass: the batch, the output, and tensors for the backward pass.
        peak: At the peak.
        per_sample: Part of ``peak`` for each sample of the batch.
        is_scaled: Whether a small crop was computed and scaled up by its area.
    """

    kept: int
    peak: int
    per_sample: int
    is_scaled: bool


def step_memory(
    network: nn.Module,
    shape: Sequence[int],
    precision: str = 'fp32',
    *,
    pictures: Iterable[Sequence[int]] = (),
    channels_last: bool = False,
    accumulates: bool = False,
) -> StepMemory | None:
    """The memory of a forward and a backward pass through a network, as torch allocates it.

    The loss is the L1 of the output. A deblurring branch is included. Not included are the workspace of the convolution
    library, fragmentation, and changes by torch.compile. For small RCANs and PDANs on a CPU in channels-last layout,
    torch's allocations were within 3% of the estimate. In contiguous layout, copies of the convolution library added up
    to 45%, and the resident memory of the process grew by up to 1.5 times the estimate.

    Args:
        network: On the CPU; not changed.
        shape: Shape of its input, including the batch.
        precision: 'fp32', 'bf16' or 'fp16', by autocast.
        pictures: Shapes of the batch's other tensors, float32, including the batch.
        channels_last: Whether parameters and input have channels-last layout.
        accumulates: Whether gradients of an earlier part exist when the step begins.

    Returns:
        None if the network cannot take such an input.
    """
    pictures = [tuple(picture) for picture in pictures]
    # not every torch version autocasts fp16 on a CPU; tensors of bf16 have the same size
    precision = 'fp32' if precision == 'fp32' else 'bf16'
    try:
        # autocast ignores meta tensors; fake tensors take twice as long
        device = 'meta' if precision == 'fp32' else 'fake'
        moments = _moments(network, shape, pictures, device, precision, channels_last, accumulates)
    except Exception:  # an operation has no shape rule or needs values: use a small crop
        small = [1, *shape[1:-2], min(_SMALL, shape[-2]), min(_SMALL, shape[-1])]
        try:
            moments = _moments(network, small, [], 'cpu', precision, channels_last, accumulates)
        except Exception:  # the network needs an input other than one picture (a GAN's latent code, a list)
            return None
        further = 4 * sum(map(math.prod, pictures))
        return _summary(moments, math.prod(shape) / math.prod(small), shape[0], further, True)
    return _summary(moments, 1.0, shape[0], 0, False)


@dataclass
class _Moments:
    """Bytes after each operation of a step: of parameters' copies and gradients, and of tensors that grow with the
    batch."""

    of_parameters: list[int]
    of_samples: list[int]
    forward_end: int = 0


def _summary(moments: _Moments, scale: float, batch_size: int, further: int, is_scaled: bool) -> StepMemory:
    totals = [
        fixed + int(growing * scale)
        for fixed, growing in zip(moments.of_parameters, moments.of_samples, strict=True)
    ]  # fmt: skip
    peak = max(range(len(totals)), key=totals.__getitem__)
    return StepMemory(
        kept=totals[moments.forward_end] + further,
        peak=totals[peak] + further,
        per_sample=(totals[peak] - moments.of_parameters[peak] + further) // batch_size,
        is_scaled=is_scaled,
    )


def _moments(
    network: nn.Module,
    shape: Sequence[int],
    pictures: Sequence[Sequence[int]],
    device: str,
    precision: str,
    channels_last: bool,
    accumulates: bool,
) -> _Moments:
    network = copy.deepcopy(network)  # some networks cache a tensor of their last input
    tensors: AbstractContextManager[object] = nullcontext()
    if device == 'fake':
        tensors = FakeTensorMode(allow_non_fake_inputs=True)
    elif device == 'meta':
        network = network.to('meta')
    network.train()
    true_device = torch.device('meta' if device == 'meta' else 'cpu')
    layout = torch.channels_last if channels_last else torch.contiguous_format
    words = {'return_lr': True} if getattr(network, 'deblur_branch', None) is not None else {}
    with tensors, torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        parameters = {
            name: torch.empty(
                parameter.shape,
                dtype=parameter.dtype,
                device=true_device,
                memory_format=layout if parameter.dim() == 4 else torch.contiguous_format,
                requires_grad=parameter.requires_grad,
            )
            for name, parameter in network.named_parameters()
        }
        if device == 'cpu':
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    parameters[name].copy_(parameter)
        counted = _CountedMemory(parameters.values(), shape[0])
        with counted, _without_collections():
            if accumulates:
                for parameter in parameters.values():
                    parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
            batch = [torch.empty(*picture, device=true_device) for picture in pictures]
            inputs = _laid_out(torch.rand(*shape, device=true_device), layout)
            with torch.enable_grad():
                with autocast(true_device, precision):
                    output = functional_call(network, parameters, (inputs,), words)
                outputs = [value for value in tree_leaves(output) if torch.is_tensor(value) and value.requires_grad]
                counted.moments.forward_end = counted.note()
                loss = torch.stack([value.float().abs().mean() for value in outputs]).sum()
                del output, outputs
                loss.backward()  # pyright: ignore[reportUnknownMemberType]
        del batch
    return counted.moments


def _laid_out(tensor: Tensor, layout: torch.memory_format) -> Tensor:
    return tensor.to(memory_format=layout) if tensor.dim() == 4 else tensor


class _CountedMemory(CountedStorages):
    """Counts memory of parameters and of samples separately.

    A tensor with as many elements as a parameter and no batch dimension counts as a copy or gradient of that parameter,
    which does not grow with the batch.
    """

    def __init__(self, parameters: Iterable[Tensor], batch_size: int) -> None:
        super().__init__()
        parameters = list(parameters)
        self.moments = _Moments([0], [0])
        self._batch_size = batch_size
        self._shapes = {parameter.shape for parameter in parameters}
        self._sizes = {parameter.numel() for parameter in parameters}

    def kind_of(self, tensor: Tensor) -> str:
        is_fixed = tensor.shape in self._shapes or (
            tensor.numel() in self._sizes and tensor.dim() > 0 and tensor.shape[0] != self._batch_size
        )
        return 'parameters' if is_fixed else 'samples'

    def after_operation(self) -> None:
        self.note()

    def note(self) -> int:
        """Records the current bytes as a moment; returns its index."""
        self.moments.of_parameters.append(self.held['parameters'])
        self.moments.of_samples.append(self.held['samples'])
        return len(self.moments.of_samples) - 1


@contextmanager
def _without_collections() -> Generator[None]:
    """Turns the garbage collector off: it takes a quarter of the time and does not change the result."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
