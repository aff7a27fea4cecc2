"""Skips optimizer steps with non-finite gradients, and reports the samples and parameters that caused them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pdan_plugin.errors import some_of


class NonFiniteTraining(RuntimeError):
    """Training ended because too many steps in a row had a loss or gradient that is not finite."""


@dataclass
class Part:
    """One backward pass: its losses by name (scalars), and the batch from which they were computed."""

    losses: Mapping[str, Tensor]
    batch: Mapping[str, Any]


@dataclass
class Finding:
    """What a check found, on the device of the gradients; the host has read none of it.

    Attributes:
        fault: 1 if the loss or a gradient is not finite on any rank, else 0; a float32 scalar.
        parameters: The parameters that have gradients.
        norms: The norms of these gradients before clipping.
    """

    fault: Tensor
    parameters: Sequence[nn.Parameter]
    norms: Tensor


class GradientGuard:
    """Checks the loss and the gradients of each step before the optimizer uses them.

    `admits` answers at once: it reads one number from the device, so the host waits for the backward pass. `find`
    leaves the answer on the device, for optimizers that can read it there.

    Args:
        clip_norm: maximum norm of the gradient over all parameters; a larger gradient is scaled down. None: no limit.
        limit: training ends when this many steps in a row were skipped.
        any_rank: returns whether a flag is set on any rank; every rank calls it.
        spread: sets a flag on a device, a scalar, if it is set on any rank; every rank calls it.

    Attributes:
        in_a_row: steps skipped since the last one taken.
        skipped: steps skipped in the whole run.
    """

    def __init__(
        self,
        clip_norm: float | None,
        limit: int,
        any_rank: Callable[[bool], bool],
        spread: Callable[[Tensor], None],
    ) -> None:
        self.clip_norm = clip_norm
        self.limit = limit
        self.any_rank = any_rank
        self.spread = spread
        self.in_a_row = 0
        self.skipped = 0

    def admits(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> bool:
        """Whether to take the step: the loss and all gradients are finite on every rank. If so, clips the gradients.

        Every rank returns the same answer.
        """
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        # read as one number; a loss may be infinite although its gradient is finite
        finite = bool(torch.isfinite(norm + loss.detach().to(norm.device)))
        if self.any_rank(not finite):
            return False
        if self.clip_norm is not None:
            clip_grads_with_norm_(trained, self.clip_norm, norm)
        self.take()
        return True

    def find(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Finding:
        """The same check without a wait of the host. Clips the gradients in any case: a step that has a fault must not
        use them.

        Args:
            parameters: Of one device and one number format.
            loss: A scalar on the same device.
        """
        pairs = [(parameter, parameter.grad) for parameter in parameters]
        trained = [parameter for parameter, gradient in pairs if gradient is not None]
        gradients = [gradient for _, gradient in pairs if gradient is not None]
        norms = torch.stack(torch._foreach_norm(gradients))  # pyright: ignore[reportPrivateImportUsage]
        norm = torch.linalg.vector_norm(norms)
        fault = torch.isfinite(norm + loss.detach()).logical_not().to(torch.float32)
        self.spread(fault)
        if self.clip_norm is not None:
            clip_grads_with_norm_(trained, self.clip_norm, norm)
        return Finding(fault, trained, norms)

    def take(self) -> None:
        """Counts a step that was taken."""
        self.in_a_row = 0

    def skip(self, iteration: int, report: str) -> str:
        """Counts a skipped step; returns the message to log.

        Raises:
            NonFiniteTraining: ``limit`` steps in a row were skipped.
        """
        self.in_a_row += 1
        self.skipped += 1
        message = (
            f'Iteration {iteration}: a loss or gradient is not finite, so the step is skipped and nothing was learned '
            f'from its batch ({self.in_a_row} in a row, training ends at {self.limit}; {self.skipped} in '
            f'all).\n{report}'
        )
        if self.in_a_row >= self.limit:
            raise NonFiniteTraining(
                f'{message}\nThe checkpoints are unchanged. Look at the samples named above first. Then resume from '
                'the last checkpoint (--auto_resume) with a lower lr, train: grad_clip_norm, or precision: bf16 in '
                'place of fp16. train: max_skipped_steps sets the number of skipped steps in a row that ends training.'
            )
        return message

    def state_dict(self) -> dict[str, int]:
        return {'in_a_row': self.in_a_row, 'skipped': self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.in_a_row, self.skipped = state['in_a_row'], state['skipped']


def describe(parts: Sequence[Part], faulty: Sequence[str]) -> str:
    """The losses, samples and parameters of this process's step that are not finite, one line each.

    If some parts have a non-finite loss, only those parts are reported.

    Args:
        faulty: Names of the parameters whose gradients are not finite.
    """
    values = [{name: float(loss) for name, loss in part.losses.items()} for part in parts]
    faulty_parts = [index for index, losses in enumerate(values) if not all(map(math.isfinite, losses.values()))]
    lines = [] if faulty_parts else ['  the losses are finite, the gradient is not']
    for index in faulty_parts or range(len(parts)):
        lines.append('  losses: ' + ', '.join(f'{name} {value:g}' for name, value in values[index].items()))
        lines += [f'  {line}' for line in _sample_lines(parts[index].batch)]
    if faulty:
        lines.append(f'  gradient not finite: {some_of(faulty, 4)}')
    return '\n'.join(lines)


def report_of_all_ranks(report: str) -> str:
    """The reports of all ranks, one below the other; every rank calls it. With one process, ``report`` itself."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return report
    reports: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(reports, report)
    return '\n'.join(f' rank {rank}:\n{each}' for rank, each in enumerate(reports))


def _sample_lines(batch: Mapping[str, Any]) -> list[str]:
    names = next((batch[key] for key in ('lq_path', 'gt_path') if key in batch), None)
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.is_floating_point()}
    count = max((len(tensor) for tensor in tensors.values()), default=0)
    names = (
        [f'number {index} of the batch' for index in range(count)] if names is None else [str(each) for each in names]
    )
    lines = ['samples: ' + ', '.join(names)]
    for key, tensor in tensors.items():
        faulty = [
            name for name, image in zip(names, tensor, strict=False) if not bool(torch.isfinite(image).all())
        ]  # fmt: skip
        if faulty:
            lines.append(f'{key} itself holds values that are not finite: {", ".join(faulty)}')
    return lines
