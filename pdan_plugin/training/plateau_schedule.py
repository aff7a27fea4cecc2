"""Lowers the learning rate when the training loss stagnates: the paper's schedule.

Source: PDAN's paper, section 4.3 ("when the loss stagnated 300,000 iterations, the learning rate drops by 50 percent").
"""

from __future__ import annotations

import math
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed
from torch.optim import Optimizer

from pdan_plugin.machine.accelerators import has_float64


class PlateauSchedule:
    """Multiplies the learning rate by ``factor`` after ``patience`` iterations without a better training loss.

    torch's ReduceLROnPlateau compares single numbers, but a training loss is too noisy for that. Here the loss is
    averaged over ``window`` iterations and over all ranks, and these averages are smoothed exponentially. The smoothed
    loss is better if it is below ``best`` by more than the fraction ``threshold``. Every rank sees the same numbers, so
    every rank has the same learning rate. The loss stays on its device and is read once per window.

    It has the scheduler interface of the toolbox: ``step()`` before each iteration, ``state_dict()``. The state holds
    the progress only, so a changed factor or patience in the option file takes effect after a resume.

    Args:
        factor: 0 < factor < 1.
        patience: iterations.
        threshold: relative improvement that counts.
        window: iterations in one average.
        smoothing: weight of the past in the smoothed loss, 0 <= smoothing < 1.
        min_lr: lower limit of the learning rate.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factor: float = 0.5,
        patience: int = 300_000,
        threshold: float = 1e-4,
        window: int = 100,
        smoothing: float = 0.99,
        min_lr: float = 0.0,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f'scheduler factor: expected a number between 0 and 1, got {factor}.')
        if patience < 1 or window < 1:
            raise ValueError(f'scheduler patience and window: expected at least 1 iteration, got {patience}, {window}.')
        if threshold < 0 or min_lr < 0:
            raise ValueError(f'scheduler threshold and min_lr: expected 0 or more, got {threshold}, {min_lr}.')
        if not 0 <= smoothing < 1:
            raise ValueError(f'scheduler smoothing: expected 0 <= smoothing < 1, got {smoothing}.')
        self.optimizer = optimizer
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.window = window
        self.smoothing = smoothing
        self.min_lr = min_lr

        self.iteration = 0
        self.reductions = 0
        self.best: float | None = None
        self.best_iteration = 0
        self.smoothed: float | None = None
        self.loss_sum: Tensor | float = 0.0
        self.loss_sums: list[float] = []  # of all ranks, after share_between_ranks
        self.loss_count = 0
        self._not_summed: list[Tensor] = []  # losses on a device without float64
        for group in optimizer.param_groups:
            group.setdefault('initial_lr', group['lr'])

    def observe(self, loss: Tensor) -> None:
        """Takes the training loss (a scalar, on any device) of the iteration just done."""
        if has_float64(loss.device):
            self.loss_sum = self.loss_sum + loss.detach().double()
        else:
            self._not_summed.append(loss.detach().clone())
            if len(self._not_summed) >= self.window:
                self._sum_on_the_host()
        self.loss_count += 1

    @property
    def needs_next_loss(self) -> bool:
        """Whether the next loss completes a window, so that the next step may set another learning rate."""
        return self.loss_count + 1 >= self.window

    def step(self) -> None:
        """Sets the learning rate of the next iteration."""
        self.iteration += 1
        if self.loss_count >= self.window:
            self._take_window()
        for group in self.optimizer.param_groups:
            # Computed from the base rate each time, so that warm-up and resume cannot leave a wrong rate.
            group['lr'] = max(self.min_lr, group['initial_lr'] * self.factor**self.reductions)

    def share_between_ranks(self) -> None:
        """Collects the unfinished window's loss sums of all ranks. Every rank must call it before a state is saved."""
        if distributed.is_available() and distributed.is_initialized():
            self.loss_sums = [0.0] * distributed.get_world_size()
            distributed.all_gather_object(self.loss_sums, self._sum_on_the_host())

    def state_dict(self) -> dict[str, Any]:
        """The progress; its ``loss_sums`` are those of the last :meth:`share_between_ranks`."""
        return {
            'iteration': self.iteration,
            'reductions': self.reductions,
            'best': self.best,
            'best_iteration': self.best_iteration,
            'smoothed': self.smoothed,
            'loss_sums': self.loss_sums or [self._sum_on_the_host()],
            'loss_count': self.loss_count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.state_dict().keys() - {'loss_sums'}:
            setattr(self, name, state[name])
        rank, world_size = get_dist_info()
        sums = state['loss_sums']  # if saved by another number of ranks, each rank takes the mean
        self.loss_sum = sums[rank] if len(sums) == world_size else math.fsum(sums) / len(sums)
        self.loss_sums = []
        self._not_summed.clear()

    def _take_window(self) -> None:
        if self._not_summed:
            self._sum_on_the_host()
        mean = self._mean_over_ranks(self.loss_sum) / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        if not math.isfinite(mean):
            # One such number would stay in the smoothed loss for ever and lower the rate every ``patience`` iterations.
            get_root_logger().warning(
                f'The training loss was {mean} in the {self.window} iterations before iteration {self.iteration}; the '
                'learning rate schedule ignores these iterations.'
            )
            return
        past = mean if self.smoothed is None else self.smoothed
        self.smoothed = self.smoothing * past + (1 - self.smoothing) * mean
        if self.best is None or self.smoothed < self.best - self.threshold * abs(self.best):
            self.best, self.best_iteration = self.smoothed, self.iteration
        elif self.iteration - self.best_iteration >= self.patience:
            self.reductions += 1
            self.best_iteration = self.iteration

    def _sum_on_the_host(self) -> float:
        """The sum of the window's losses so far as a number; reading it waits for the device."""
        if self._not_summed:
            losses = torch.stack(self._not_summed).cpu().double()
            self.loss_sum = math.fsum([float(self.loss_sum), *losses.tolist()])
            self._not_summed.clear()
        return float(self.loss_sum)

    @staticmethod
    def _mean_over_ranks(value: Tensor | float) -> float:
        if not (distributed.is_available() and distributed.is_initialized()):
            return float(value)
        # gloo reduces on the CPU, nccl on the GPU.
        summed = torch.as_tensor(value, dtype=torch.float64).clone()
        if distributed.get_backend() == 'nccl' and not summed.is_cuda:
            summed = summed.cuda()
        distributed.all_reduce(summed)
        return float(summed) / distributed.get_world_size()
