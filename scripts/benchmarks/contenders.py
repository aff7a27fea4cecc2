"""The two sides of a training benchmark: the toolbox's SRModel as published, and this project's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.models import build_model

from benchmarks.pictures import SCALE
from benchmarks.timing import Candidate, medians, memory_of, times_in_turn
from pdan_plugin.toolbox_fixes import stock_toolbox

# A setting's name is made of these words, joined by '+'. Each word sets these train options.
_WORDS: dict[str, dict[str, Any]] = {
    'fp32': {},
    'bf16': {'precision': 'bf16'},
    'channels_last': {'channels_last': True},
    'compile': {'compile': True},
}
SETTINGS = ('fp32', 'bf16', 'channels_last', 'compile', 'bf16+channels_last', 'bf16+channels_last+compile')
_PRINT_FREQ = 100  # as in the toolbox's option files


def rcan(features: int) -> dict[str, Any]:
    """The benchmark's RCAN: 2 groups of 4 blocks."""
    return {
        'type': 'RCAN',
        'num_in_ch': 3,
        'num_out_ch': 3,
        'num_feat': features,
        'num_group': 2,
        'num_block': 4,
        'squeeze_factor': 16,
        'upscale': SCALE,
    }


def pdan(features: int, *, deblur_branch: bool = False) -> dict[str, Any]:
    """A PDAN of the same size: RSCA, both groups fused."""
    return {**rcan(features), 'type': 'PDAN', 'fuse_levels': 2, 'attention': 'rsca', 'deblur_branch': deblur_branch}


@dataclass(frozen=True)
class Contender:
    """A model in training, and the toolbox context for its steps.

    Attributes:
        model: The toolbox's SRModel or one of this project's models.
        context: Every use of the model must be inside this context.
    """

    model: Any
    context: Callable[[], AbstractContextManager]

    def step(self, iteration: int, batch: Mapping[str, Any]) -> None:
        """One iteration of the toolbox's trainer (counted from 1), without data loading; call it inside ``context``."""
        self.model.update_learning_rate(iteration, warmup_iter=-1)
        self.model.feed_data(dict(batch))
        self.model.optimize_parameters(iteration)
        if iteration % _PRINT_FREQ == 0:
            self.model.get_current_log()

    def candidate(self, batches: list[dict[str, Any]]) -> Candidate:
        """Steps through the batches in an endless loop."""
        iteration = 0

        def call() -> None:
            nonlocal iteration
            iteration += 1
            self.step(iteration, batches[iteration % len(batches)])

        return Candidate(call, self.context)


def measured_steps(
    sides: Mapping[str, Contender],
    batches: list[dict[str, Any]],
    rounds: int,
    device: torch.device,
    description: str,
) -> dict[str, Any]:
    """Times the steps of contenders in turn: ``seconds`` and ``samples_per_second`` by name, ``step_memory`` (bytes of
    tensors at a step's peak, beyond weights, averages and the optimizer's state), and all ``times``."""
    candidates = {name: side.candidate(batches) for name, side in sides.items()}
    times = times_in_turn(candidates, rounds, device=device, description=description)
    seconds = medians(times)
    memory = {}
    for name, side in sides.items():
        side.model.optimizer_g.zero_grad()  # so that the gradients count as the step's memory
        with side.context():
            memory[name] = memory_of(candidates[name].call, device)
    return {
        'seconds': seconds,
        'samples_per_second': {name: len(batches[0]['lq']) / each for name, each in seconds.items()},
        'step_memory': memory,
        'times': times,
    }


def stock(network: Mapping[str, Any], device: torch.device, seed: int = 0) -> Contender:
    """The toolbox's SRModel in the published toolbox; its initial weights are those of :func:`ours`."""
    with stock_toolbox():
        return Contender(_build('SRModel', network, {}, device, seed), stock_toolbox)


def ours(network: Mapping[str, Any], setting: str, device: torch.device, seed: int = 0) -> Contender:
    """RestorationModel in a setting (see ``SETTINGS``); DualSupervisionModel for a network with a deblurring branch."""
    options = {key: value for word in setting.split('+') for key, value in _WORDS[word].items()}
    has_branch = network.get('deblur_branch', False)
    if has_branch:
        options['deblur_opt'] = {'type': 'L1Loss', 'loss_weight': 0.5}
    model_type = 'DualSupervisionModel' if has_branch else 'RestorationModel'
    return Contender(_build(model_type, network, options, device, seed), nullcontext)


def _build(
    model_type: str, network: Mapping[str, Any], options: Mapping[str, Any], device: torch.device, seed: int
) -> Any:
    torch.manual_seed(seed)
    return build_model(
        {
            'name': 'benchmark',
            'model_type': model_type,
            'scale': SCALE,
            'num_gpu': 1 if device.type == 'cuda' else 0,
            'manual_seed': seed,
            'dist': False,
            'rank': 0,
            'world_size': 1,
            'is_train': True,
            'datasets': {},
            'network_g': dict(network),
            'path': {},
            'train': {
                'ema_decay': 0.999,
                'optim_g': {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [10**9], 'gamma': 0.5},
                'total_iter': 10**9,
                'warmup_iter': -1,
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
                **options,
            },
            'val': {},
        }
    )
