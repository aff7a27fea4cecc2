"""Networks: their device and process group, their running average, and their validation."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import torch
from basicsr.models import base_model
from basicsr.models.base_model import BaseModel
from torch import nn

from pdan_plugin.machine.devices import training_device
from pdan_plugin.processes.process_group import wait_for_rank_zero
from pdan_plugin.toolbox_fixes.joining_ranks import pretended_second_rank
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped
from pdan_plugin.training.parameter_average import average_of


@fix(
    where='models/base_model.py:17',
    upstream='none',
    symptom='num_gpu: 1 with an Apple or Intel GPU: AssertionError, Torch not compiled with CUDA enabled',
    behaves=lambda: _finds_other_gpus(),
)
def networks_are_on_the_gpu_at_hand() -> None:
    """A run with GPUs uses the kind that this machine has: CUDA, or else Apple's or Intel's."""
    published = BaseModel.__init__

    @functools.wraps(published)
    def __init__(self: Any, opt: dict[str, Any]) -> None:
        published(self, opt)
        self.device = training_device(opt['num_gpu'])

    replace(BaseModel, '__init__', __init__)


@probe
def _finds_other_gpus() -> bool:
    """Builds a model on a machine that seems to have an Intel GPU alone; nothing is computed."""
    absent, present = {'is_available': lambda: False}, {'is_available': lambda: True}
    with swapped(torch.cuda, **absent), swapped(torch.backends.mps, **absent), swapped(torch.xpu, **present):
        model: Any = BaseModel({'num_gpu': 1, 'is_train': False})
    return model.device.type == 'xpu'


@fix(
    where='models/base_model.py:97',
    upstream='none',
    symptom='several processes on a CPU: AssertionError, Torch not compiled with CUDA enabled',
    behaves=lambda: _wraps_on_a_cpu(),
)
def wrap_without_cuda() -> None:
    """Passes a device to DistributedDataParallel only for a network on a GPU."""
    published = BaseModel.model_to_device

    @functools.wraps(published)
    def model_to_device(self: BaseModel, net: nn.Module) -> nn.Module:
        if not self.opt['dist'] or self.device.type == 'cuda':
            return published(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return base_model.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    replace(BaseModel, 'model_to_device', model_to_device)


@fix(
    where='models/base_model.py:75',
    upstream='none',
    symptom="the averaged network keeps its initial buffers: BatchNorm's statistics are never copied to it",
    behaves=lambda: _averages_have_the_buffers(),
)
def ema_copies_buffers() -> None:
    """Copies buffers without averaging: averaged counters and statistics would have no meaning. Moves all parameters in
    few calls; on a CPU the bits are the toolbox's."""

    @functools.wraps(BaseModel.model_ema)
    def model_ema(self: Any, decay: float = 0.999) -> None:
        average_of(self).move(decay)

    replace(BaseModel, 'model_ema', model_ema)


@fix(
    where='train.py:164',
    upstream='none',
    symptom='the last validation is logged at iteration total + 1, which was not trained',
    behaves=lambda: _last_validation_is_at_the_end(),
)
def last_validation_at_the_last_iteration() -> None:
    """Limits `current_iter` to `total_iter`; the trainer's counter is one too high. In a test it is the run's name and
    is unchanged."""
    published = BaseModel.validation

    @functools.wraps(published)
    def validation(
        self: BaseModel, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False
    ) -> None:
        if isinstance(current_iter, int) and self.opt['is_train']:
            current_iter = min(current_iter, int(self.opt['train']['total_iter']))
        published(self, dataloader, current_iter, tb_logger, save_img)

    replace(BaseModel, 'validation', validation)


@fix(
    where='models/sr_model.py:132',
    upstream='none',
    symptom='rank 0 validates alone while the others wait in the next collective, and fail when it times out',
    behaves=lambda: _waits_after_validation(),
)
def ranks_wait_for_validation() -> None:
    """After a validation the other ranks wait for rank 0 without a time limit. In a collective they would fail after
    the group's timeout."""
    published = BaseModel.validation

    @functools.wraps(published)
    def validation(self: BaseModel, *args: Any, **kwargs: Any) -> None:
        published(self, *args, **kwargs)
        wait_for_rank_zero()

    replace(BaseModel, 'validation', validation)


@probe
def _wraps_on_a_cpu() -> bool:
    """Whether DistributedDataParallel gets no device. It is replaced, since a real one needs a process group."""
    asked: list[dict[str, Any]] = []
    model: Any = SimpleNamespace(opt={'dist': True, 'num_gpu': 0}, device=torch.device('cpu'))
    with swapped(
        base_model,
        torch=SimpleNamespace(cuda=SimpleNamespace(current_device=lambda: 0)),
        DistributedDataParallel=lambda net, **settings: asked.append(settings),
    ):
        BaseModel.model_to_device(model, nn.Identity())
    return not asked[0].get('device_ids')


@probe
def _averages_have_the_buffers() -> bool:
    net, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    vars(net)['_buffers']['running_mean'].fill_(1.0)
    model: Any = SimpleNamespace(net_g=net, net_g_ema=average, get_bare_model=lambda each: each)
    BaseModel.model_ema(model, decay=0.5)
    return vars(average)['_buffers']['running_mean'].item() == 1.0


@probe
def _last_validation_is_at_the_end() -> bool:
    """Whether a run of 6 iterations validates at iteration 6 when the trainer passes 7."""
    seen: list[int] = []
    model: Any = SimpleNamespace(
        opt={'dist': False, 'is_train': True, 'train': {'total_iter': 6}},
        feed_data=lambda data: None,
        nondist_validation=lambda dataloader, current_iter, *args: seen.append(current_iter),
    )
    BaseModel.validation(model, None, 7, None)
    return seen == [6]


@probe
def _waits_after_validation() -> bool:
    model: Any = SimpleNamespace(
        opt={'dist': True, 'is_train': True, 'train': {'total_iter': 6}},
        feed_data=lambda data: None,
        dist_validation=lambda *args: None,
    )
    with pretended_second_rank() as waits:
        BaseModel.validation(model, None, 1, None)
    return bool(waits)
