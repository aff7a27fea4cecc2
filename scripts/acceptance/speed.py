"""What a block, a training step and a picture cost: milliseconds, kernels, gaps between them, memory.

The goals are for a GPU of 2020 or later. In small settings the figures are only taken, because there they mean little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from acceptance.checks import Check, Outcome, Setting
from acceptance.correctness import graphed
from acceptance.fused import launched, plain_form
from benchmarks.contenders import Contender, ours, pdan, stock
from benchmarks.full_network import bf16_matrix_rate, full_pdan
from benchmarks.pictures import LR_SIZE, training_batch
from benchmarks.timing import memory_of, release_memory
from pdan_plugin.archs.fast_layers import spatial_mean
from pdan_plugin.archs.pdan_arch import AttentionBlock
from pdan_plugin.losses.hpem_loss import HPEMLoss
from pdan_plugin.machine.accelerators import synchronize
from pdan_plugin.machine.network_size import multiply_accumulates
from pdan_plugin.machine.step_memory import step_memory
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.restoration.inference_network import inference_network
from pdan_plugin.training.fused_optimizers import step_unless

_EAGER = 'bf16+channels_last'


def checks() -> list[Check]:
    return [
        Check('block', 'channels-last is not slower than contiguous, nor compiled than eager', _block),
        Check(
            'fused speed',
            "the fused block's kernels take at most 0.9 of the plain block's time, and it is not slower by the clock",
            _fused,
            needs_cuda=True,
        ),
        Check('step', "full PDAN, batch 16: at least 4 times the stock toolbox's fp32 step", _step),
        Check('step memory', 'its peak memory: at most 1.3 times the estimate of `basicsr check`', _step_memory),
        Check('gap', 'the device idles in at most 15% of an eager step', _gap, needs_cuda=True),
        Check('host tail', 'guard, Adam and averaging take at most 10% of the step', _host_tail),
        Check('frame', 'full PDAN, 320x180, the fastest of eager, graph and batch 4: at most 20 ms', _frame),
        Check('parts', 'HPEM forward and backward: at most 3 times L1', _parts),
    ]  # fmt: skip


def timed(setting: Setting, call: Callable[[], object]) -> float:
    """Median seconds of a call, device work included: of 10, of 3 in small settings; 2 calls before are not counted."""
    times: list[float] = []
    for _ in range(2 + (3 if setting.is_small else 10)):
        synchronize(setting.device)
        started = time.perf_counter()
        call()
        synchronize(setting.device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _kernels(setting: Setting, call: Callable[[], object]) -> tuple[int, float]:
    """The number of device kernels of a call and their seconds in sum; on a CPU, operators called from Python."""
    on_cuda = setting.device.type == 'cuda'
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_cuda]) as profiler:
        call()
        synchronize(setting.device)
    if on_cuda:
        events = [each for each in profiler.events() or [] if str(each.device_type).endswith('CUDA')]
        return len(events), sum(each.device_time_total for each in events) / 1e6
    top = [each for each in profiler.events() or [] if each.cpu_parent is None]
    return len(top), sum(each.cpu_time_total for each in top) / 1e6


def _block(setting: Setting) -> Outcome:
    figures: dict[str, dict[str, float]] = {}
    with plain_form():
        for name, layout, compiled in (
            ('contiguous', torch.contiguous_format, False),
            ('channels-last', torch.channels_last, False),
            ('channels-last, compiled', torch.channels_last, True),
        ):
            if compiled and setting.is_small:
                continue  # compiling takes longer than a test may
            figures[name] = _cost_of_a_block(setting, layout, compiled=compiled)
    in_order = [each['seconds'] for each in figures.values()]
    # a tenth for the noise of the measurement
    met = setting.is_small or all(later <= 1.1 * earlier for earlier, later in pairwise(in_order))
    return Outcome(met, _costs_in_words(figures), figures)


def _fused(setting: Setting) -> Outcome:
    figures: dict[str, dict[str, float]] = {}
    with plain_form():
        figures['plain'] = _cost_of_a_block(setting, torch.channels_last)
    with launched() as names:
        figures['fused'] = _cost_of_a_block(setting, torch.channels_last)
    if not names:
        return Outcome(False, 'the plain form was used; a warning before names the cause', figures)
    plain, fused = figures['plain'], figures['fused']
    met = fused['kernel_seconds'] <= 0.9 * plain['kernel_seconds'] and fused['seconds'] <= 1.1 * plain['seconds']
    return Outcome(met, _costs_in_words(figures), figures)


def _cost_of_a_block(setting: Setting, layout: torch.memory_format, *, compiled: bool = False) -> dict[str, float]:
    """Of an attention block in bf16, forward and backward."""
    width, batch = (16, 1) if setting.is_small else (128, 16)
    block = AttentionBlock(width, 16, 'rsca').to(setting.device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    if compiled:
        block.compile()
    features = torch.randn(batch, width, LR_SIZE, LR_SIZE, dtype=torch.bfloat16, device=setting.device)
    features = features.to(memory_format=layout).requires_grad_()

    def forward_and_backward() -> None:
        with torch.autocast(setting.device.type, torch.bfloat16):
            result = block(features)
        result.backward(torch.ones_like(result))

    seconds = timed(setting, forward_and_backward)
    count, in_kernels = _kernels(setting, forward_and_backward)
    return {'seconds': seconds, 'kernels': count, 'kernel_seconds': in_kernels}


def _costs_in_words(figures: dict[str, dict[str, float]]) -> str:
    return ', '.join(
        f'{name} {each["seconds"] * 1e3:.2f} ms, {each["kernels"]:.0f} kernels of {each["kernel_seconds"] * 1e3:.2f} ms'
        for name, each in figures.items()
    )


def _options(setting: Setting, *, deblur_branch: bool = False) -> dict[str, Any]:
    return pdan(16, deblur_branch=deblur_branch) if setting.is_small else full_pdan(deblur_branch=deblur_branch)


def _batch(setting: Setting) -> dict[str, Any]:
    batch = training_batch(1 if setting.is_small else 16, seed=0, number=0)
    if setting.is_small:
        batch.update({key: batch[key][..., :side, :side] for key, side in (('lq', 24), ('lq_sharp', 24), ('gt', 96))})
    return batch


def _stepping(side: Contender, batch: dict[str, Any]) -> Callable[[], None]:
    iteration = 0

    def step() -> None:
        nonlocal iteration
        iteration += 1
        with side.context():
            side.step(iteration, batch)

    return step


def _step(setting: Setting) -> Outcome:
    batch, seconds = _batch(setting), {}
    sides = {'stock fp32': lambda: stock(_options(setting), setting.device)}
    settings = (_EAGER,) if setting.is_small else (_EAGER, _EAGER + '+compile')
    for each in settings:
        sides[each] = lambda each=each: ours(_options(setting), each, setting.device)
        name = f'{each}, deblurring branch'
        sides[name] = lambda each=each: ours(_options(setting, deblur_branch=True), each, setting.device)
    for name, build in sides.items():
        started = time.perf_counter()
        step = _stepping(build(), batch)
        step()
        synchronize(setting.device)
        first = time.perf_counter() - started
        seconds[name] = {'step': timed(setting, step), 'set-up and first step': first}
        del step
        release_memory(setting.device)
    torch.compiler.reset()
    ratio = seconds['stock fp32']['step'] / min(seconds[each]['step'] for each in settings)
    words = ', '.join(f'{name} {each["step"] * 1e3:.1f} ms' for name, each in seconds.items())
    return Outcome(setting.is_small or ratio >= 4, f'{ratio:.2f} times; {words}', {'ratio': ratio, 'seconds': seconds})


def _step_memory(setting: Setting) -> Outcome:
    batch = _batch(setting)
    side = ours(_options(setting, deblur_branch=True), _EAGER, setting.device)
    step = _stepping(side, batch)
    step()
    side.model.optimizer_g.zero_grad()
    peak = memory_of(step, setting.device)
    network = build_network(_options(setting, deblur_branch=True), 'network_g')
    pictures = [batch['gt'].shape, batch['lq_sharp'].shape]
    estimate = step_memory(network, batch['lq'].shape, 'bf16', channels_last=True, pictures=pictures)
    assert estimate is not None, 'PDAN takes any picture'
    share = peak / estimate.peak
    return Outcome(
        setting.is_small or share <= 1.3,
        f'{peak / 2**20:.0f} MiB, {share:.2f} times the estimate',
        {'peak': peak, 'estimate': estimate.peak},
    )


def _gap(setting: Setting) -> Outcome:
    step = _stepping(ours(_options(setting, deblur_branch=True), _EAGER, setting.device), _batch(setting))
    seconds = timed(setting, step)
    count, in_kernels = _kernels(setting, step)
    idle = max(0.0, 1 - in_kernels / seconds)
    words = f'{idle:.1%} idle: step {seconds * 1e3:.1f} ms, {count} kernels of {in_kernels * 1e3:.1f} ms'
    return Outcome(
        idle <= 0.15, words, {'idle': idle, 'seconds': seconds, 'kernels': count, 'kernel_seconds': in_kernels}
    )


def _host_tail(setting: Setting) -> Outcome:
    side = ours(_options(setting, deblur_branch=True), _EAGER, setting.device)
    step = _stepping(side, _batch(setting))
    whole = timed(setting, step)
    model = side.model
    parameters = list(model.net_g.parameters())
    loss = torch.zeros((), device=setting.device)
    flag = torch.zeros((), device=setting.device)
    check = model.guard.find if setting.device.type == 'cuda' else model.guard.admits
    parts = {
        'guard': timed(setting, lambda: check(parameters, loss)),
        'Adam': timed(setting, lambda: step_unless(flag, model.optimizer_g)),
        'averaging': timed(setting, lambda: model.model_ema(0.999, flag)),
    }
    share = sum(parts.values()) / whole
    words = ', '.join(f'{name} {seconds * 1e3:.2f} ms' for name, seconds in parts.items())
    return Outcome(
        setting.is_small or share <= 0.1, f'{share:.1%} of {whole * 1e3:.1f} ms: {words}', {'step': whole, **parts}
    )


def _frame(setting: Setting) -> Outcome:
    size = (24, 32) if setting.is_small else (180, 320)
    network = build_network(_options(setting), 'network_g')
    picture = torch.rand(1, 3, *size, device=setting.device)
    counted = multiply_accumulates(network, tuple(picture.shape))
    assert counted is not None, 'PDAN takes any picture'
    seconds: dict[str, float] = {}
    restore = inference_network(network, setting.device, precision='bf16')
    seconds['bf16 eager'] = timed(setting, lambda: restore(picture))
    four = picture.repeat(4, 1, 1, 1)
    seconds['bf16 batch of 4, a picture'] = timed(setting, lambda: restore(four)) / 4
    if setting.device.type == 'cuda':
        replay = graphed(restore, picture)
        seconds['bf16 graph'] = timed(setting, lambda: replay(picture))
    for layout in (torch.channels_last, torch.contiguous_format):
        full = inference_network(network, setting.device, layout=layout)
        name = str(layout).removeprefix('torch.').replace('_', ' ')
        seconds[f'fp32 {name}'] = timed(setting, lambda full=full: full(picture))
    best = min(seconds[name] for name in seconds if name.startswith('bf16'))
    figures: dict[str, Any] = {'seconds': seconds, 'multiply_accumulates': counted.value}
    words = ', '.join(f'{name} {each * 1e3:.1f} ms' for name, each in seconds.items())
    if setting.device.type == 'cuda':
        rate = bf16_matrix_rate(setting.device, 3)
        share = 2 * counted.value / best / rate
        figures.update(card_operations_per_second=rate, matrix_rate_share=share)
        words += f'; {share:.0%} of the bf16 rate of a matrix product ({rate / 1e12:.0f} TFLOP/s)'
    return Outcome(setting.is_small or best <= 0.02, words, figures)


def _parts(setting: Setting) -> Outcome:
    shape = (1, 3, 96, 96) if setting.is_small else (16, 3, 256, 256)
    pred = torch.rand(shape, device=setting.device, requires_grad=True)
    target = torch.rand(shape, device=setting.device)
    maps = torch.rand(shape[0], 128, 64, 64, device=setting.device).to(memory_format=torch.channels_last)
    maps.requires_grad_()
    hpem = HPEMLoss()
    seconds = {
        'HPEM': timed(setting, lambda: hpem(pred, target).backward()),
        'L1': timed(setting, lambda: torch.nn.functional.l1_loss(pred, target).backward()),
        'spatial mean': timed(setting, lambda: spatial_mean(maps).sum().backward()),
    }
    ratio = seconds['HPEM'] / seconds['L1']
    words = ', '.join(f'{name} {each * 1e3:.3f} ms' for name, each in seconds.items())
    return Outcome(setting.is_small or ratio <= 3, f'{ratio:.1f} times; {words}', seconds)
