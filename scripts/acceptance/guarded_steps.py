"""Steps with gradients that are not finite: the device skips them, and the host does not wait to know."""

from __future__ import annotations

import logging
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from acceptance.checks import Check, Outcome, Setting
from benchmarks.contenders import Contender, ours, pdan
from benchmarks.pictures import training_batch
from pdan_plugin.losses.hpem_loss import HPEMLoss


def checks() -> list[Check]:
    return [
        Check('skipped step', 'a NaN changes no bit of weights, moments and average; its step and sample are reported',
              _skipped_step),
        Check('host waits', 'in a step with HPEM, average and limited gradients the host never waits for the device',
              _host_waits, needs_cuda=True),
    ]  # fmt: skip


def _small_batch() -> dict[str, Any]:
    batch = training_batch(2, seed=0, number=0)
    batch.update({key: batch[key][..., :side, :side] for key, side in (('lq', 24), ('lq_sharp', 24), ('gt', 96))})
    return batch


def _learned(model: Any) -> list[Tensor]:
    networks = [*model.net_g.state_dict().values(), *model.net_g_ema.state_dict().values()]
    states = model.optimizer_g.state_dict()['state'].values()
    return [each.detach().clone() for each in (*networks, *(value for state in states for value in state.values()))]


def _skipped_step(setting: Setting) -> Outcome:
    side = _with_hard_pixels(setting)
    model, batch = side.model, {**_small_batch(), 'lq_path': ['first', 'second']}
    bad = {**batch, 'gt': batch['gt'].clone(), 'lq_path': ['third', 'fourth']}
    bad['gt'][1, 0, 0, 0] = float('nan')
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    get_root_logger().addHandler(handler)
    try:
        side.step(1, batch)
        before = _learned(model)
        side.step(2, bad)
        skipped = _learned(model)
        side.step(3, batch)
        model.settle_last_step()
    finally:
        get_root_logger().removeHandler(handler)
    after = _learned(model)
    changed = sum(not torch.equal(one, other) for one, other in zip(before, skipped, strict=True))
    learned = sum(not torch.equal(one, other) for one, other in zip(skipped, after, strict=True))
    report = lines[-1] if lines else 'nothing was reported'
    named = 'Iteration 2: ' in report and 'not finite: fourth' in report
    words = f'{changed} tensors changed by it, {learned} by the next step; {report.splitlines()[0]}'
    return Outcome(changed == 0 < learned and named, words, {'changed': changed, 'learned': learned, 'report': report})


def _with_hard_pixels(setting: Setting) -> Contender:
    side = ours(pdan(16, deblur_branch=True), 'bf16+channels_last', setting.device)
    side.model.cri_pix = HPEMLoss()
    side.model.guard.clip_norm = 1.0
    return side


def _host_waits(setting: Setting) -> Outcome:
    side = _with_hard_pixels(setting)
    batch = {key: value.pin_memory() if isinstance(value, Tensor) else value for key, value in _small_batch().items()}
    for iteration in (1, 2, 3):  # libraries choose their kernels, optimizers make their state
        side.step(iteration, batch)
    torch.cuda.synchronize(setting.device)
    torch.cuda.set_sync_debug_mode('error')  # an operation that waits raises
    try:
        for iteration in (4, 5, 6):
            side.step(iteration, batch)
    finally:
        torch.cuda.set_sync_debug_mode('default')
    side.model.settle_last_step()
    return Outcome(side.model.guard.skipped == 0, 'three steps without a wait')
