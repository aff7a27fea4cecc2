"""Learning rate schedules: after warm-up, past their end, and on resume."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from pdan_plugin.toolbox_fixes.patching import SILENT, fix, replace, swapped


def _probe_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@fix(
    where='models/lr_scheduler.py:30',
    upstream='none',
    symptom='after a warm-up of w iterations the learning rate stays at (w-1)/w of what was asked for',
)
def multistep_reaches_base_rate() -> bool:
    """The rate was taken from the last one, which warm-up had set; now it follows from the base rate in closed form."""
    scheduler = MultiStepRestartLR(_probe_optimizer(), milestones=[100])
    scheduler.optimizer.param_groups[0]['lr'] = 0.5
    scheduler.last_epoch = 1
    if scheduler.get_lr() == [1.0]:
        return False

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
    return True


@fix(
    where='models/lr_scheduler.py:91',
    upstream='#728',
    symptom='TypeError: list indices must be integers, once training runs past the last period of the cosine',
)
def cosine_stays_at_its_end() -> bool:
    """Past the sum of its periods the rate stays at the last period's final value."""
    scheduler = CosineAnnealingRestartLR(_probe_optimizer(), periods=[2])
    scheduler.last_epoch = 3
    try:
        scheduler.get_lr()
        return False
    except TypeError:
        pass
    published = CosineAnnealingRestartLR.get_lr

    def get_lr(self: CosineAnnealingRestartLR) -> list[float]:
        iteration = self.last_epoch
        self.last_epoch = min(iteration, self.cumulative_period[-1])
        try:
            return published(self)
        finally:
            self.last_epoch = iteration

    replace(CosineAnnealingRestartLR, 'get_lr', get_lr)
    return True


@fix(
    where='models/base_model.py:352',
    upstream='#327',
    symptom='milestones, gamma or periods changed in the option file have no effect on a resumed run',
)
def option_file_schedule_wins() -> bool:
    """What a scheduler's constructor was given stays on resume; where the state differs, a warning says so.

    The optimizer's own state (the base rate with it) still comes from the state file, and a warning tells of a
    different base rate in the option file.
    """
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.schedulers = [MultiStepRestartLR(_probe_optimizer(), milestones=[5])]
    other = MultiStepRestartLR(_probe_optimizer(), milestones=[7]).state_dict()
    with swapped(base_model, get_root_logger=lambda *args, **kwargs: SILENT):
        model.resume_training({'optimizers': [], 'schedulers': [other]})
    if 5 in model.schedulers[0].milestones:
        return False
    published = BaseModel.resume_training

    def resume_training(self: BaseModel, resume_state: dict[str, Any]) -> None:
        logger = base_model.get_root_logger()
        asked_rates = [_base_rates(each) for each in self.optimizers]
        asked_schedules = [_constructor_arguments(each) for each in self.schedulers]
        states = [
            _fitting_state(each, state, resume_state)
            for each, state in zip(self.schedulers, resume_state['schedulers'], strict=False)
        ]
        published(self, {**resume_state, 'schedulers': states or resume_state['schedulers']})
        for optimizer, asked in zip(self.optimizers, asked_rates, strict=True):
            saved = _base_rates(optimizer)
            if saved != asked:
                logger.warning(
                    f'Resuming: base learning rate {asked} in the option file, {saved} in the state; '
                    "the state's is used."
                )
        for scheduler, asked in zip(self.schedulers, asked_schedules, strict=True):
            for name, value in asked.items():
                saved = getattr(scheduler, name)
                if saved != value:
                    logger.warning(
                        f'Resuming: {type(scheduler).__name__} has {name} {_plain(value)} in the option '
                        f"file, {_plain(saved)} in the state; the option file's is used."
                    )
                    setattr(scheduler, name, value)

    replace(BaseModel, 'resume_training', resume_training)
    return True


def _fitting_state(scheduler: Any, state: dict[str, Any], resume_state: dict[str, Any]) -> dict[str, Any]:
    """The state; or, where it is of another kind of scheduler, the scheduler's own at the run's iteration."""
    own = scheduler.state_dict()
    position = 'last_epoch' if 'last_epoch' in own else 'iteration'
    if position in state or position not in own:
        return state
    base_model.get_root_logger().warning(
        f'Resuming: the state is of another kind of scheduler than {type(scheduler).__name__} in the option file, '
        f'which starts as at iteration {resume_state["iter"]}.'
    )
    return {**own, position: resume_state['iter']}


def _base_rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group.get('initial_lr', group['lr']) for group in optimizer.param_groups]


def _constructor_arguments(scheduler: Any) -> dict[str, Any]:
    names = set(inspect.signature(type(scheduler).__init__).parameters) - {'self', 'optimizer', 'last_epoch'}
    return {name: vars(scheduler)[name] for name in sorted({*names, 'cumulative_period'}) if name in vars(scheduler)}


def _plain(value: Any) -> Any:
    return sorted(value.elements()) if hasattr(value, 'elements') else value
