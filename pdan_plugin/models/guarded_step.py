"""The end of a training iteration: the gradients are checked, the optimizers step, the average follows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pdan_plugin.models.resumable import ResumableModel
from pdan_plugin.processes.process_group import any_rank, reduces_on_device
from pdan_plugin.training.fused_optimizers import skips_by_flag, step_unless
from pdan_plugin.training.gradient_guard import Finding, Part, describe, report_of_all_ranks
from pdan_plugin.training.parameter_average import average_of
from pdan_plugin.training.plateau_schedule import PlateauSchedule
from pdan_plugin.training.unread_flag import UnreadFlag


@dataclass
class Step:
    """An iteration after its backward passes.

    Attributes:
        iteration: Its number.
        parts: Its backward passes.
        loss: The sum of their losses, a scalar.
        scale: The loss scale of the backward passes, a scalar on the device; None without fp16.
    """

    iteration: int
    parts: list[Part]
    loss: Tensor
    scale: Tensor | None


@dataclass
class UnreadStep:
    """A step that the device took or skipped; the host does not know which yet."""

    step: Step
    finding: Finding
    is_skipped: UnreadFlag


class GuardedStepModel(ResumableModel):
    """Skips and reports steps with a loss or gradient that is not finite.

    On a CPU, and for optimizers without a fused form, the host reads whether the gradients are finite, then steps.

    On CUDA the host does not wait for that. The flag stays on the device, where the fused optimizers and the average
    obey it. The host reads it one step late, when the next step's kernels are queued, and then counts and reports the
    step with its own number and samples. Whatever depends on the count reads it first (`settle_last_step`): log lines,
    checkpoints, validations, and the schedule that follows the loss.
    """

    losses: OrderedDict[str, Tensor]
    _statistics: list[Tensor]
    _unread: UnreadStep | None = None
    _judged: tuple[list[torch.optim.Optimizer], bool] = ([], False)

    def trained_networks(self) -> dict[str, nn.Module]:
        """The networks that an iteration trains, by the names of their files; wrapped ones (DDP) stay wrapped."""
        return {'net_g': self.net_g}

    def step_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of these networks. In an iteration either all of them step, or none does."""
        return [self.optimizer_g]

    # ---- the step ----

    def finish_step(self, iteration: int, parts: list[Part], before: list[Tensor]) -> None:
        """Takes the step, or skips it if a loss or gradient is not finite.

        Args:
            parts: The iteration's backward passes; ``losses`` holds their sum by name.
            before: The running statistics before the iteration, which a skipped step keeps.

        Raises:
            NonFiniteTraining: Too many steps in a row were skipped.
        """
        optimizers = self.step_optimizers()
        step = Step(iteration, parts, torch.stack(list(self.losses.values())).sum(), self._loss_scale())
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        parameters = [each for optimizer in optimizers for group in optimizer.param_groups for each in group['params']]
        if self._skips_on_the_device(optimizers):
            self.settle_last_step()  # before the optimizers step: the last step may end the training
            self._finish_on_the_device(step, optimizers, self.guard.find(parameters, step.loss), before)
            return
        if not self.guard.admits(parameters, step.loss):
            self.scaler.update()
            self._report_skip(step, self._faulty_gradients())
            for buffer, value in zip(self._statistics, before, strict=True):
                buffer.copy_(value)
            return
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self._observe(step)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _finish_on_the_device(
        self, step: Step, optimizers: list[torch.optim.Optimizer], finding: Finding, before: list[Tensor]
    ) -> None:
        for optimizer in optimizers:
            step_unless(finding.fault, optimizer)
        self.scaler.update()
        stays = finding.fault.to(torch.bool)
        for buffer, value in zip(self._statistics, before, strict=True):
            buffer.copy_(torch.where(stays, value, buffer))
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay, unless=finding.fault)
        self._unread = UnreadStep(step, finding, UnreadFlag(finding.fault))

    def _skips_on_the_device(self, optimizers: list[torch.optim.Optimizer]) -> bool:
        if self._judged[0] != optimizers:
            follows = type(self).model_ema is GuardedStepModel.model_ema  # another one may know no flag
            possible = skips_by_flag(optimizers) and reduces_on_device(self.device) and follows
            self._judged = (list(optimizers), possible)
        return self._judged[1]

    def _loss_scale(self) -> Tensor | None:
        return self.scaler.scale(torch.ones((), device=self.device)) if self.scaler.is_enabled() else None

    def _observe(self, step: Step) -> None:
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.observe(step.loss)

    def model_ema(self, decay: float = 0.999, unless: Tensor | None = None) -> None:
        """Moves the averaged parameters towards the trained ones by 1 - ``decay``. Copies the buffers.

        ``unless`` is a flag on the device, a float32 scalar: if it is 1, nothing changes.
        """
        average_of(self).move(decay, unless)

    # ---- what the host knows of it ----

    def settle_last_step(self) -> None:
        """Reads whether the last step was taken if the device alone knows it; counts it, and reports a skipped one.

        Every rank calls it at the same place. It waits for that step, not for later work.

        Raises:
            NonFiniteTraining: Too many steps in a row were skipped.
        """
        unread, self._unread = self._unread, None
        if unread is None:
            return
        if not unread.is_skipped.read():
            self.guard.take()
            self._observe(unread.step)
            return
        is_finite = torch.isfinite(unread.finding.norms).tolist()
        pairs = zip(unread.finding.parameters, is_finite, strict=True)
        self._report_skip(unread.step, self._names_of([parameter for parameter, finite in pairs if not finite]))

    def _report_skip(self, step: Step, faulty: Sequence[str]) -> None:
        losses = torch.stack([loss for part in step.parts for loss in part.losses.values()])
        losses_are_finite = not any_rank(not bool(torch.isfinite(losses).all()))
        logger = get_root_logger()
        if step.scale is not None and losses_are_finite:
            report = (
                f'  fp16 overflowed at a loss scale of {float(step.scale):g}; it is now {self.scaler.get_scale():g}.'
            )
            logger.warning(self.guard.skip(step.iteration, report))
            return
        logger.error(self.guard.skip(step.iteration, report_of_all_ranks(describe(step.parts, faulty))))

    def _faulty_gradients(self) -> list[str]:
        return self._names_of([
            parameter
            for network in self.trained_networks().values()
            for parameter in network.parameters()
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
        ])  # fmt: skip

    def _names_of(self, parameters: list[nn.Parameter]) -> list[str]:
        """The parameters' names, in the order of the networks; those of net_g without its name."""
        wanted = set(map(id, parameters))
        return [
            name if label == 'net_g' else f'{label}.{name}'
            for label, network in self.trained_networks().items()
            for name, parameter in self.get_bare_model(network).named_parameters()
            if id(parameter) in wanted
        ]

    # ---- before these the last step is settled ----

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        plateaus = [each for each in self.schedulers if isinstance(each, PlateauSchedule)]
        if any(schedule.needs_next_loss for schedule in plateaus):
            self.settle_last_step()
        super().update_learning_rate(current_iter, warmup_iter)

    def get_current_log(self) -> OrderedDict[str, float]:
        """The last iteration's losses, averaged over the ranks. The trainer calls it on every rank.

        Losses are read only here, because reading one makes the host wait for the GPU. A model that overrides
        `optimize_parameters` and sets no `losses` logs its `log_dict`, as in the toolbox.
        """
        self.settle_last_step()
        if self.losses:
            self.log_dict = self.reduce_loss_dict(self.losses)
        return self.log_dict

    def validation(
        self, dataloader: DataLoader[Any], current_iter: int, tb_logger: Any, save_img: bool = False
    ) -> None:
        self.settle_last_step()
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def save_network(
        self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int, param_key: str | list[str] = 'params'
    ) -> None:
        self.settle_last_step()
        super().save_network(net, net_label, current_iter, param_key)  # pyright: ignore[reportArgumentType]

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Saves the training state. Every rank calls it, through `save`; rank 0 writes."""
        self.settle_last_step()
        super().save_training_state(epoch, current_iter)
