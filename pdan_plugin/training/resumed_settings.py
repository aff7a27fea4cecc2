"""On a resume, the option file's settings of optimizers and schedulers override those of the training state.

`toolbox_fixes/schedulers.py` calls this when a model resumes. The current rate is not a setting: the scheduler computes
it from the base rate of the option file and the iteration of the state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

# torch's name for the base rate of a parameter group, and its name in the option file
_WORDS = {'initial_lr': 'lr'}


class OptionFileSettings:
    """Settings of optimizers and schedulers from the option file, kept while a training state is loaded into them.

    Args:
        optimizers: As built from the option file.
        schedulers: As built from the option file.
        warn: Called with one line for each setting that differs in the state.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], schedulers: Sequence[Any], warn: Callable[[str], None]
    ) -> None:
        self._warn = warn
        self._optimizers = [(each, _group_settings(each)) for each in optimizers]
        self._schedulers = [(each, _constructor_arguments(each)) for each in schedulers]

    def fitting_states(self, states: Sequence[dict[str, Any]], iteration: int | None) -> list[dict[str, Any]]:
        """The states to load. A state of another kind of scheduler is replaced by the new scheduler's own.

        Args:
            states: The saved states of the schedulers, in order.
            iteration: The run's iteration; a new kind of scheduler starts there.
        """
        return [
            self._fitting_state(scheduler, state, iteration)
            for (scheduler, _), state in zip(self._schedulers, states, strict=False)
        ]

    def put_back(self) -> None:
        """Restores the option file's values after the state was loaded."""
        for optimizer, groups in self._optimizers:
            for group, settings in zip(optimizer.param_groups, groups, strict=True):
                for name, value in settings.items():
                    self._set(optimizer, group, name, value)
        for scheduler, arguments in self._schedulers:
            for name, value in arguments.items():
                self._set(scheduler, vars(scheduler), name, value)
            if hasattr(scheduler, 'base_lrs'):
                scheduler.base_lrs = [group['initial_lr'] for group in scheduler.optimizer.param_groups]

    def _set(self, owner: Any, saved: dict[str, Any], name: str, asked: Any) -> None:
        if name in saved and _plain(saved[name]) != _plain(asked):
            self._warn(
                f'Resuming: {type(owner).__name__} has {_WORDS.get(name, name)} {_plain(asked)} in the option file, '
                f"{_plain(saved[name])} in the state; the option file's is used."
            )
        saved[name] = asked

    def _fitting_state(self, scheduler: Any, state: dict[str, Any], iteration: int | None) -> dict[str, Any]:
        own = scheduler.state_dict()
        position = 'last_epoch' if 'last_epoch' in own else 'iteration'
        if position in state or position not in own:
            return state
        self._warn(
            f'Resuming: the state is of another kind of scheduler than {type(scheduler).__name__} in the option file, '
            f'which starts as at iteration {iteration}.'
        )
        return {**own, position: iteration}


def _group_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Settings of each parameter group without `lr`, which is the schedule's progress."""
    return [
        {name: value for name, value in group.items() if name not in ('params', 'lr')}
        for group in optimizer.param_groups
    ]


def _constructor_arguments(scheduler: Any) -> dict[str, Any]:
    names = set(inspect.signature(type(scheduler).__init__).parameters) - {'self', 'optimizer', 'last_epoch'}
    return {name: vars(scheduler)[name] for name in sorted({*names, 'cumulative_period'}) if name in vars(scheduler)}


def _plain(value: Any) -> Any:
    if hasattr(value, 'elements'):
        return sorted(value.elements())
    return list(value) if isinstance(value, tuple) else value
