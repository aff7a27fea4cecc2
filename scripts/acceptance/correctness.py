"""Whether the device computes what float64 on the CPU computes, and whether faster forms compute what plain ones do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from acceptance.checks import Check, Outcome, Setting
from benchmarks.infer import measure_agreement
from benchmarks.pictures import large_frames, training_batch
from pdan_plugin.archs.fast_layers import gated_residual
from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.losses.hpem_loss import HPEMLoss
from pdan_plugin.machine.accelerators import free_cached_memory, synchronize
from pdan_plugin.machine.cuda_graphs import recorder_for
from pdan_plugin.machine.size_graphs import SizeGraphs
from pdan_plugin.machine.tf32 import full_float32
from pdan_plugin.restoration.inference_network import Restoring, inference_network
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.weights.packaged_weights import packaged_weights
from pdan_plugin.weights.trained_network import load_trained_network

# Of each dtype: the largest difference from float64, in units of the largest value.
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def checks() -> list[Check]:
    return [
        Check('network', 'fp32 differs from float64 on the CPU by at most 0.01 grey levels', _network),
        Check('gradients', 'each within 0.1% of float64 on the CPU in fp32; in bf16 a cosine of 0.99', _gradients),
        Check('hard pixels', 'HPEM with many equal errors: the gradient equals float64 on the CPU', _hard_pixels),
        Check('gates', 'the fast gate equals the plain one, forward and backward, in all dtypes and layouts', _gates),
        Check('bf16', 'pdan_small: at least 99.9% of values within a grey level of fp32, PSNR within 0.01 dB', _bf16),
        Check('tiles', 'pdan_small in tiles: at most one grey level from the whole picture', _tiles),
        Check('graph', 'restore with CUDA graphs: at most one grey level from without, every size that came again is '
              'replayed, also batches; networks that wait for the device run without', _graph, needs_cuda=True),
    ]  # fmt: skip


def small_pdan(setting: Setting, *, deblur_branch: bool = False) -> PDAN:
    """PDAN with initial weights: 4 groups of 4 blocks of 64 features; 2 of 1 of 16 in small settings."""
    torch.manual_seed(0)
    if setting.is_small:
        return PDAN(num_feat=16, num_group=2, num_block=1, fuse_levels=2, deblur_branch=deblur_branch)
    return PDAN(num_feat=64, num_group=4, num_block=4, fuse_levels=4, deblur_branch=deblur_branch)


def _network(setting: Setting) -> Outcome:
    network = small_pdan(setting).eval()
    picture = torch.rand(1, 3, 45, 67)
    with torch.inference_mode():
        expected = copy.deepcopy(network).double()(picture.double())
    got = inference_network(network, setting.device)(picture).cpu()
    levels = float((got - expected).abs().max()) * 255
    return Outcome(levels <= 0.01, f'{levels:.2g} grey levels', {'grey_levels': levels})


def _gradients(setting: Setting) -> Outcome:
    batch = training_batch(1, seed=0, number=0)
    inputs = [batch['lq'][..., :33, :40], batch['gt'][..., : 4 * 33, : 4 * 40], batch['lq_sharp'][..., :33, :40]]
    network = small_pdan(setting, deblur_branch=True)

    def gradients(dtype: torch.dtype, device: torch.device, autocasts: bool) -> dict[str, Tensor]:
        own = copy.deepcopy(network).to(device, dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        lq, gt, sharp = (each.to(device, dtype) for each in inputs)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocasts), full_float32():
            hr, lr = own(lq, return_lr=True)
            loss = nn.functional.l1_loss(hr, gt) + 0.5 * nn.functional.l1_loss(lr, sharp)
        with full_float32():
            loss.backward()
        return {
            name: parameter.grad.double().cpu()
            for name, parameter in own.named_parameters()
            if parameter.grad is not None
        }

    expected = gradients(torch.float64, torch.device('cpu'), False)
    full = gradients(torch.float32, setting.device, False)
    reduced = gradients(torch.float32, setting.device, True)
    worst = max((float((full[name] - value).norm() / value.norm()), name) for name, value in expected.items())
    flat = {name: torch.cat([each[key].flatten() for key in expected]) for name, each in
            {'expected': expected, 'reduced': reduced}.items()}  # fmt: skip
    cosine = float(nn.functional.cosine_similarity(flat['expected'], flat['reduced'], dim=0))
    return Outcome(
        worst[0] <= 1e-3 and cosine >= 0.99 and full.keys() == expected.keys() == reduced.keys(),
        f'fp32 {worst[0]:.2g} ({worst[1]}), bf16 cosine {cosine:.5f}',
        {'fp32_relative': worst[0], 'fp32_parameter': worst[1], 'bf16_cosine': cosine},
    )


def _hard_pixels(setting: Setting) -> Outcome:
    # sixteenths: sums are exact in float32, so ties are ties on every device
    pred, target = (torch.randint(0, 4, (3, 3, 64, 48)).double() / 16 for _ in range(2))

    def gradient(dtype: torch.dtype, device: torch.device) -> Tensor:
        own = pred.clone().to(device, dtype).requires_grad_()
        # a sum has gradients of whole numbers: no rounding hides another choice of pixels
        HPEMLoss(reduction='sum')(own, target.to(device, dtype)).backward()
        assert own.grad is not None
        return own.grad.cpu().double()

    expected, got = gradient(torch.float64, torch.device('cpu')), gradient(torch.float32, setting.device)
    unlike = int((expected != got).sum())
    return Outcome(unlike == 0, f'{unlike} of {expected.numel()} values differ', {'values_that_differ': unlike})


def _gates(setting: Setting) -> Outcome:
    dtypes = [torch.float32, torch.bfloat16] + [torch.float16] * (setting.device.type == 'cuda')
    figures: dict[str, float] = {}
    for dtype in dtypes:
        for layout in (torch.channels_last, torch.contiguous_format):
            difference = max(_gate_difference(setting.device, dtype, layout, size) for size in ((8, 8), (13, 7)))
            name = f'{str(dtype).removeprefix("torch.")}, {str(layout).removeprefix("torch.")}'
            figures[name] = difference / _TOLERANCES[dtype]
    worst = max(figures, key=lambda name: figures[name])
    return Outcome(
        figures[worst] <= 1,
        f'{len(figures)} forms; the worst, {worst}, uses {figures[worst]:.0%} of its tolerance',
        {'share_of_tolerance': figures},
    )


def _gate_difference(
    device: torch.device, dtype: torch.dtype, layout: torch.memory_format, size: tuple[int, int]
) -> float:
    shapes = [(2, 16, *size), (2, 16, *size), (2, 16, 1, 1), (2, 1, *size)]
    values = [torch.randn(shape).to(dtype) for shape in shapes]

    def outputs(tensors: list[Tensor], fast: bool) -> list[Tensor]:
        tensors = [each.requires_grad_() for each in tensors]
        x, branch, channel_gate, spatial_gate = tensors
        result = gated_residual(*tensors) if fast else x + branch * (channel_gate + spatial_gate)
        result.sum().backward()
        return [result.detach(), *(each.grad for each in tensors if each.grad is not None)]

    expected = outputs([each.double() for each in values], fast=False)
    got = outputs([each.to(device).to(memory_format=layout) for each in values], fast=True)
    return max(
        float((one.cpu().double() - other).abs().max() / other.abs().max())
        for one, other in zip(got, expected, strict=True)
    )


def _bf16(setting: Setting) -> Outcome:
    measured = measure_agreement(packaged_weights()['pdan_small'], None, 1 if setting.is_small else 3, setting.device)
    within, psnr = measured['within_one_level']['lowest'], measured['psnr_difference']['farthest']
    return Outcome(within >= 0.999 and abs(psnr) <= 0.01, f'{within:.4%}, {psnr:+.5f} dB', measured)


def _tiles(setting: Setting) -> Outcome:
    network = load_trained_network(packaged_weights()['pdan_small'])
    *_, frame = large_frames(1)
    small = downsample_uint8(frame, 4)
    if setting.is_small:
        small = small[:80, :96]
    whole = Restorer(network, setting.device).restore_picture(small)
    tiled = Restorer(network, setting.device, tile=48 if setting.is_small else 96).restore_picture(small)
    levels = int(abs(whole.astype(int) - tiled.astype(int)).max())
    return Outcome(levels <= 1, f'{levels} grey level(s)', {'grey_levels': levels})


class _Waiting(nn.Module):
    """A network that waits for the device: it reads a value, or synchronises, which no recording shows beforehand."""

    def __init__(self, network: nn.Module, device: torch.device, *, reads_value: bool) -> None:
        super().__init__()
        self.network, self.device, self.reads_value = network, device, reads_value

    def forward(self, x: Tensor) -> Tensor:
        if self.reads_value:
            x = x + 0 * x.mean().item()
        else:
            synchronize(self.device)
        return self.network(x)


def _graph(setting: Setting) -> Outcome:
    network = load_trained_network(packaged_weights()['pdan_small'])
    *_, frame = large_frames(1)
    small = downsample_uint8(frame, 4)
    sizes = ((24, 32), (17, 40)) if setting.is_small else ((90, 160), (60, 100))
    pictures = [small[number : number + height, :width] for number in range(5) for height, width in sizes]
    levels, counts, notes = 0, [], []
    for precision in ('fp32', 'bf16'):
        plain = Restorer(network, setting.device, precision=precision)
        graphed = Restorer(network, setting.device, precision=precision, cuda_graphs=True)
        for picture in pictures:
            results = [each.restore_picture(picture).astype(int) for each in (plain, graphed)]
            levels = max(levels, int(abs(results[0] - results[1]).max()))
        for _ in range(4):
            together = [wait() for wait in graphed.begin_pictures(pictures[::2])]
        for picture, result in zip(pictures[::2], together, strict=True):
            levels = max(levels, int(abs(plain.restore_picture(picture).astype(int) - result).max()))
        counts.append(0 if graphed.graphs is None else graphed.graphs.checked)
        notes += graphed.notes
    for reads_value in (True, False):
        waiting = Restorer(_Waiting(network, setting.device, reads_value=reads_value), setting.device, cuda_graphs=True)
        plain = Restorer(network, setting.device)
        for picture in pictures[::2]:
            results = [each.restore_picture(picture).astype(int) for each in (plain, waiting)]
            levels = max(levels, int(abs(results[0] - results[1]).max()))
        free_cached_memory(setting.device)  # possible only if the failed recording has ended
        notes += waiting.notes
    words = f'{levels} grey level(s); {" and ".join(map(str, counts))} recordings; {" | ".join(notes) or "no notes"}'
    return Outcome(levels <= 1 and counts == [3, 3], words, {'grey_levels': levels, 'recordings': counts})


def graphed(restore: Restoring, example: Tensor) -> SizeGraphs:
    """The network with its work for pictures of the example's size recorded, as in `basicsr restore`.

    Raises:
        RuntimeError: It was not recorded.
    """
    recorder = recorder_for(example.device)
    notes: list[str] = []
    if recorder is None:
        raise RuntimeError(f'{example.device} has no graphs')
    graphs = SizeGraphs(restore, recorder, note=notes.append)
    for _ in range(3):
        graphs(example)
    if not graphs.checked:
        raise RuntimeError(' '.join(notes) or 'it was not recorded')
    return graphs
