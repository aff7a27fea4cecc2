"""No step is taken on gradients that are not finite; who caused them is named."""

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
    """Training was ended because too many steps in a row had losses or gradients that are not finite."""


@dataclass
class Part:
    """What one backward pass was of: its losses by name (scalars), and the loader's batch it was computed from."""

    losses: Mapping[str, Tensor]
    batch: Mapping[str, Any]


class GradientGuard:
    """Looks at every step's losses and gradients before the optimizer does.

    Whether they are finite has to be read from the device at each step, which makes the host wait for the backward
    pass: some microseconds of launching the optimizer are no longer hidden behind it.

    Args:
        clip_norm: the gradient's norm over all parameters is scaled down to it where it is larger; None leaves it.
        limit: how many steps in a row may be skipped before training ends.
        any_rank: whether a flag is set on any rank; every rank asks.

    Attributes:
        in_a_row: steps skipped since the last one taken.
        skipped: steps skipped in the whole run.
    """

    def __init__(self, clip_norm: float | None, limit: int, any_rank: Callable[[bool], bool]) -> None:
        self.clip_norm = clip_norm
        self.limit = limit
        self.any_rank = any_rank
        self.in_a_row = 0
        self.skipped = 0

    def admits(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> bool:
        """Whether the step is to be taken: the loss, and the gradients of all parameters, are finite on every rank.

        Clips the gradients then. Every rank comes to the same answer.
        """
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        norm = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        # one number to read; a loss may be infinite where its gradient is not
        finite = bool(torch.isfinite(norm + loss.detach().to(norm.device)))
        if self.any_rank(not finite):
            return False
        if self.clip_norm is not None:
            clip_grads_with_norm_(trained, self.clip_norm, norm)
        self.in_a_row = 0
        return True

    def skip(self, iteration: int, report: str) -> str:
        """Counts a skipped step; returns the message to log.

        Raises:
            NonFiniteTraining: it was the last one allowed.
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
                f'{message}\nThe checkpoints are as they were. To go on from the last of them (--auto_resume): a lower '
                'lr, train: grad_clip_norm, precision: bf16 in place of fp16; look at the samples named above first. '
                'train: max_skipped_steps is how many may be skipped.'
            )
        return message

    def state_dict(self) -> dict[str, int]:
        return {'in_a_row': self.in_a_row, 'skipped': self.skipped}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.in_a_row, self.skipped = state['in_a_row'], state['skipped']


def describe(parts: Sequence[Part], parameters: Iterable[tuple[str, nn.Parameter]]) -> str:
    """Which losses, samples and parameters' gradients are not finite, of this process's step; one line each.

    Of parts with and without a loss that is not finite, those without are left out.
    """
    values = [{name: float(loss) for name, loss in part.losses.items()} for part in parts]
    faulty_parts = [index for index, losses in enumerate(values) if not all(map(math.isfinite, losses.values()))]
    lines = [] if faulty_parts else ['  the losses are finite, the gradient is not']
    for index in faulty_parts or range(len(parts)):
        lines.append('  losses: ' + ', '.join(f'{name} {value:g}' for name, value in values[index].items()))
        lines += [f'  {line}' for line in _sample_lines(parts[index].batch)]
    faulty = [
        name for name, parameter in parameters
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    ]  # fmt: skip
    if faulty:
        lines.append(f'  gradient not finite: {some_of(faulty, 4)}')
    return '\n'.join(lines)


def report_of_all_ranks(report: str) -> str:
    """The reports of all ranks, one below the other; every rank calls it. Without a process group, the report."""
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
