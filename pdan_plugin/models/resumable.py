"""A training state that holds whatever decides what comes after, and the way back into it."""

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

# Ways to compute the same optimizer.
IMPLEMENTATIONS = ('fused', 'foreach', 'capturable', 'differentiable')


class ResumableModel(ShardedValidationModel):
    """The toolbox's training state, and what it lacks: random generators, loss scale, skipped steps, best scores.

    Built by the subclass in training: ``scaler`` and ``guard``.
    """

    scaler: torch.amp.GradScaler
    guard: GradientGuard

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Every rank calls it, through `save`; rank 0 writes."""
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.share_between_ranks()
        self._random_states = _from_all_ranks(random_state(self.device))
        run_history(self.opt).sync()  # the record must not fall behind the state in a power cut
        super().save_training_state(epoch, current_iter)

    def training_state(self, epoch: int, current_iter: int) -> dict[str, Any]:
        """The toolbox's training state and what it lacks; asked for on rank 0, within `save_training_state`."""
        return {
            **super().training_state(epoch, current_iter),  # pyright: ignore[reportAttributeAccessIssue]
            'random': self._random_states,
            'scaler': self.scaler.state_dict(),
            'guard': self.guard.state_dict(),
            'best_metric_results': getattr(self, 'best_metric_results', {}),
        }

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Goes on from a training state, this model's or the toolbox's own, which lacks the random generators, the
        best scores and fp16's scale: those begin anew, and a line in the log says so.

        Raises:
            RequestError: the state is of another number of optimizers.
        """
        if len(resume_state['optimizers']) != len(self.optimizers):
            raise RequestError(
                f'The training state of iteration {resume_state["iter"]} is of {len(resume_state["optimizers"])} '
                f'optimizer(s), and {type(self).__name__} has {len(self.optimizers)}: another model_type saved it. Go '
                'on with that one, or begin anew from its weights (path: pretrain_network_g, without resume_state).'
            )
        # how an optimizer is computed is this run's affair, not that of the run which saved the state
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
                f'The training state of iteration {resume_state["iter"]} is one of the toolbox: without the state of '
                "the random generators, the best scores so far and fp16's loss scale. Those begin anew."
            )
        else:
            self._set_random_state(resume_state['random'])
            self.guard.load_state_dict(resume_state['guard'])
            self.best_metric_results = resume_state['best_metric_results']
        if self.scaler.is_enabled() and resume_state.get('scaler'):
            self.scaler.load_state_dict(resume_state['scaler'])
        iteration = resume_state['iter']
        validated = from_rank_zero(lambda: run_history(self.opt).validations(iteration))
        for dataset_name, results in validated.items():  # made after the state was saved
            self._validated_at[dataset_name] = iteration
            if results:
                self.note_results(dataset_name, results, iteration)

    def _set_random_state(self, states: list[dict[str, Any]]) -> None:
        rank, world_size = get_dist_info()
        if len(states) != world_size:
            get_root_logger().warning(
                f'The training state is of {len(states)} rank(s), this run has {world_size}: it sees the same samples '
                'an epoch, in other batches, and its random generators do not go on where they stood.'
            )
        if rank < len(states):
            set_random_state(states[rank], self.device)


def _lay_out_state(optimizer: torch.optim.Optimizer) -> None:
    """Lays moments out as their parameters are, which a state saved with another `channels_last` does not: fused Adam
    takes both to lie alike in memory, and on a CPU does not look whether they do."""
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
