"""Saves a complete training state, and resumes from it."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed

from pdan_plugin.errors import RequestError
from pdan_plugin.models.sharded_validation import ShardedValidationModel
from pdan_plugin.processes.process_group import from_rank_zero
from pdan_plugin.training.gradient_guard import GradientGuard
from pdan_plugin.training.history import run_history
from pdan_plugin.training.plateau_schedule import PlateauSchedule
from pdan_plugin.training.random_state import random_state, set_random_state

# Options that choose how an optimizer is computed, not what it computes.
IMPLEMENTATIONS = ('fused', 'foreach', 'capturable', 'differentiable')


class ResumableModel(ShardedValidationModel):
    """Adds to the toolbox's training state: random generators, loss scale, skipped steps and best scores.

    In training, the subclass builds ``scaler`` and ``guard``.
    """

    scaler: torch.amp.GradScaler
    guard: GradientGuard

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Saves the training state. Every rank calls it, through `save`; rank 0 writes."""
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.share_between_ranks()
        self._random_states = _from_all_ranks(random_state(self.device))
        run_history(self.opt).sync()  # after a power cut the history must not be older than the state
        super().save_training_state(epoch, current_iter)

    def training_state(self, epoch: int, current_iter: int) -> dict[str, Any]:
        """The complete training state. Called on rank 0, within `save_training_state`."""
        return {
            **super().training_state(epoch, current_iter),  # pyright: ignore[reportAttributeAccessIssue]
            'random': self._random_states,
            'scaler': self.scaler.state_dict(),
            'guard': self.guard.state_dict(),
            'best_metric_results': getattr(self, 'best_metric_results', {}),
        }

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Resumes from a training state of this model or of the toolbox.

        A state of the toolbox has no random generators, best scores or fp16 loss scale. These start from their initial
        values, and a warning is logged.

        Raises:
            RequestError: the state has another number of optimizers.
        """
        if len(resume_state['optimizers']) != len(self.optimizers):
            raise RequestError(
                f'The training state of iteration {resume_state["iter"]} has {len(resume_state["optimizers"])} '
                f'optimizer(s), and {type(self).__name__} has {len(self.optimizers)}: another model_type saved it. '
                'Resume with that model_type, or start a new run from its weights (path: pretrain_network_g, without '
                'resume_state).'
            )
        # this run, not the run that saved the state, decides how its optimizers are computed
        own_groups = [each.param_groups for each in self.optimizers]
        resume_state['optimizers'] = [
            {**state, 'param_groups': [
                {**saved, **{name: own[name] for name in IMPLEMENTATIONS if name in own}}
                for saved, own in zip(state['param_groups'], groups, strict=False)
            ]}
            for state, groups in zip(resume_state['optimizers'], own_groups, strict=True)
        ]  # fmt: skip
        super().resume_training(resume_state)
        for optimizer in self.optimizers:
            _lay_out_state(optimizer)

        missing = [name for name in ('random', 'guard', 'best_metric_results') if name not in resume_state]
        if missing:
            get_root_logger().warning(
                f'The training state of iteration {resume_state["iter"]} was saved by the toolbox: it has no random '
                'generators, best scores or fp16 loss scale. These start from their initial values.'
            )
        else:
            self._set_random_state(resume_state['random'])
            self.guard.load_state_dict(resume_state['guard'])
            self.best_metric_results = resume_state['best_metric_results']
        if self.scaler.is_enabled() and resume_state.get('scaler'):
            self.scaler.load_state_dict(resume_state['scaler'])
        iteration = resume_state['iter']
        validated = from_rank_zero(lambda: run_history(self.opt).validations(iteration))
        for dataset_name, results in validated.items():  # validations made after the state was saved
            self._validated_at[dataset_name] = iteration
            if results:
                self.note_results(dataset_name, results, iteration)

    def _set_random_state(self, states: list[dict[str, Any]]) -> None:
        rank, world_size = get_dist_info()
        if len(states) != world_size:
            get_root_logger().warning(
                f'The training state was saved by {len(states)} rank(s), this run has {world_size}: an epoch has the '
                'same samples in other batches, and the random generators do not continue from the saved state.'
            )
        if rank < len(states):
            set_random_state(states[rank], self.device)


def _lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Gives moments the memory layout of their parameters. It differs if the state was saved with another
    `channels_last`; fused Adam expects the same layout, and on a CPU it does not check."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _from_all_ranks(value: Any) -> list[Any]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
