"""Learning rate schedules: after warm-up, after their end, and on resume."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped
from pdan_plugin.training.resumed_settings import OptionFileSettings


def _probe_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@fix(
    where='models/lr_scheduler.py:30',
    upstream='none',
    symptom='after a warm-up of w iterations the learning rate stays at (w-1)/w of its option',
    behaves=lambda: _multistep_begins_at_the_base_rate(),
)
def multistep_reaches_base_rate() -> None:
    """Computes the rate from the base rate in closed form. The stock scheduler used the last rate, set by warm-up."""

    def get_lr(self: MultiStepRestartLR) -> list[float]:
        past = [
            (restart, weight)
            for restart, weight in zip(self.restarts, self.restart_weights, strict=True)
            if restart <= self.last_epoch
        ]
        start, weight = max(past, key=lambda pair: pair[0], default=(-1, 1))
        drops = sum(times for milestone, times in self.milestones.items() if start < milestone <= self.last_epoch)
        return [group['initial_lr'] * weight * self.gamma**drops for group in self.optimizer.param_groups]

    replace(MultiStepRestartLR, 'get_lr', get_lr)


@probe
def _multistep_begins_at_the_base_rate() -> bool:
    scheduler = MultiStepRestartLR(_probe_optimizer(), milestones=[100])
    scheduler.optimizer.param_groups[0]['lr'] = 0.5
    scheduler.last_epoch = 1
    return scheduler.get_lr() == [1.0]


@fix(
    where='models/lr_scheduler.py:91',
    upstream='#728',
    symptom='TypeError: list indices must be integers, once training runs past the last period of the cosine',
    behaves=lambda: _cosine_has_an_end(),
)
def cosine_stays_at_its_end() -> None:
    """After the sum of its periods the rate stays at the final value of the last period."""
    published = CosineAnnealingRestartLR.get_lr

    def get_lr(self: CosineAnnealingRestartLR) -> list[float]:
        iteration = self.last_epoch
        self.last_epoch = min(iteration, self.cumulative_period[-1])
        try:
            return published(self)
        finally:
            self.last_epoch = iteration

    replace(CosineAnnealingRestartLR, 'get_lr', get_lr)


@probe
def _cosine_has_an_end() -> bool:
    scheduler = CosineAnnealingRestartLR(_probe_optimizer(), periods=[2])
    scheduler.last_epoch = 3
    scheduler.get_lr()
    return True


@fix(
    where='models/base_model.py:352',
    upstream='#327',
    symptom='lr, milestones, gamma or periods changed in the option file have no effect on a resumed run',
    behaves=lambda: _keeps_the_milestones(),
)
def option_file_schedule_wins() -> None:
    """On resume the option file's settings of optimizers and schedulers win; differences are logged as warnings."""
    published = BaseModel.resume_training

    def resume_training(self: BaseModel, resume_state: dict[str, Any]) -> None:
        asked = OptionFileSettings(
            self.optimizers, self.schedulers, lambda text: base_model.get_root_logger().warning(text)
        )
        states = asked.fitting_states(resume_state['schedulers'], resume_state.get('iter'))
        published(self, {**resume_state, 'schedulers': states or resume_state['schedulers']})
        asked.put_back()

    replace(BaseModel, 'resume_training', resume_training)


@probe
def _keeps_the_milestones() -> bool:
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.schedulers = [MultiStepRestartLR(_probe_optimizer(), milestones=[5])]
    other = MultiStepRestartLR(_probe_optimizer(), milestones=[7]).state_dict()
    with swapped(base_model, get_root_logger=lambda *args, **kwargs: SILENT):
        model.resume_training({'optimizers': [], 'schedulers': [other]})
    return 5 in model.schedulers[0].milestones
