"""Speed of restoring a picture: the full PDAN in bfloat16 against an RCAN of the same size in the stock toolbox, and
against the rate of a single convolution on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.contenders import rcan
from benchmarks.full_network import bf16_matrix_rate, full_pdan
from benchmarks.pictures import SCALE, large_frames
from benchmarks.timing import Candidate, medians, memory_of, times_in_turn
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.network_size import multiply_accumulates
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.restoration.inference_network import Restoring, inference_network
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.toolbox_fixes import stock_toolbox
from pdan_plugin.weights.trained_network import load_trained_network

SIZE = (180, 320)
STOCK = 'stock RCAN, fp32'
OURS = 'PDAN, bf16'
COMPILED = 'PDAN, bf16, compiled'
LAYER = 'one bf16 layer'
_LAYER_CALLS = 10  # a single call is too short to time


def benchmark_infer(
    rounds: int,
    features: int,
    device: torch.device,
    *,
    groups: int = 10,
    blocks: int = 20,
    size: tuple[int, int] = SIZE,
    compiled: bool = False,
) -> dict[str, Any]:
    """Times one picture through each side in turn. Both networks have the same size and random weights.

    Args:
        size: (height, width) of the input.
        compiled: Whether to time the compiled PDAN too.

    Returns:
        ``ratio`` (how many times faster PDAN in bf16 is than stock RCAN in fp32), ``seconds`` and ``times`` by side,
        ``peak_memory`` by network (tensors beyond the weights), ``multiply_accumulates`` of PDAN,
        ``operations_per_second`` (a multiply-accumulate is two) by side in bf16, ``layer_share`` of PDAN by side: its
        rate in that of a single 3x3 layer of its width at the same size; on CUDA ``matrix_rate_share`` of a large
        matrix product by side, elsewhere None; ``measured_on``.
    """
    sizes = {'num_feat': features, 'num_group': groups, 'num_block': blocks}
    torch.manual_seed(0)
    with stock_toolbox():
        stock = build_network({**rcan(features), **sizes}).to(device).eval()
    pdan_opt = {**full_pdan(), **sizes, 'fuse_levels': min(5, groups)}
    pdan = build_network(pdan_opt)
    networks: dict[str, Restoring] = {OURS: inference_network(pdan, device, precision='bf16')}
    if compiled:
        networks[COMPILED] = inference_network(pdan, device, precision='bf16', compiled=True)
    counted = multiply_accumulates(pdan, (1, 3, *size))
    assert counted is not None, 'PDAN takes any picture'
    del pdan
    picture = first_picture(size).to(device)

    def run_stock() -> Tensor:
        with torch.no_grad():  # as the toolbox's tester
            return stock(picture)

    candidates = {STOCK: Candidate(run_stock, stock_toolbox)}
    for name, network in networks.items():
        candidates[name] = Candidate(lambda network=network: network(picture))
    layer = _layer(features, size, device)
    times = times_in_turn(
        {**candidates, LAYER: Candidate(layer)}, rounds, warm_up=1, device=device, description='restoring'
    )
    times[LAYER] = [each / _LAYER_CALLS for each in times[LAYER]]
    seconds = medians(times)
    peak_memory = {}
    for name, candidate in candidates.items():
        with candidate.context():
            peak_memory[name] = memory_of(candidate.call, device)

    rates = {name: 2 * counted.value / seconds[name] for name in networks}
    rates[LAYER] = 2 * 9 * features**2 * size[0] * size[1] / seconds[LAYER]
    matrix_rate = bf16_matrix_rate(device, rounds) if device.type == 'cuda' else None
    return {
        'ratio': seconds[STOCK] / seconds[OURS],
        'seconds': seconds,
        'times': times,
        'peak_memory': peak_memory,
        'multiply_accumulates': counted.value,
        'operations_per_second': rates,
        'layer_share': {name: rates[name] / rates[LAYER] for name in networks},
        'matrix_rate_share': matrix_rate and {name: rates[name] / matrix_rate for name in networks},
        'measured_on': {**sizes, 'input': [1, 3, *size], 'device': device.type},
    }


def measure_agreement(weights: Path, option_file: Path | None, pictures: int, device: torch.device) -> dict[str, Any]:
    """The difference between bf16 and fp32 for trained weights, on photographs made four times smaller.

    Random weights cannot show it: their output is noise, and their features have other magnitudes.

    Returns:
        ``within_one_level``: the share of values that round to at most one grey level from fp32's, mean and lowest of
        the pictures; ``psnr`` against the photographs by precision, means in dB; ``psnr_difference`` (bf16 less fp32)
        mean and the one farthest from 0; ``pictures``.

    Raises:
        RequestError: The weights do not fit, or their scale is not 4.
    """
    network = load_trained_network(weights, option_file)
    by_precision = {each: inference_network(network, device, precision=each) for each in ('fp32', 'bf16')}
    shares, psnr = [], {'fp32': [], 'bf16': []}
    for number in range(pictures):
        small, large = (each.to(device) for each in _picture(SIZE, number))
        restored = {}
        for name, restore in by_precision.items():
            restored[name] = (restore(small).clamp(0, 1) * 255).round()
            if restored[name].shape != large.shape:
                raise RequestError(f'{weights}: agreement is measured at x{SCALE}; this network has another scale.')
            psnr[name].append(_psnr(restored[name], large * 255))
        shares.append(float(((restored['fp32'] - restored['bf16']).abs() <= 1).double().mean()))
    differences = [low - full for low, full in zip(psnr['bf16'], psnr['fp32'], strict=True)]
    return {
        'within_one_level': {'mean': sum(shares) / pictures, 'lowest': min(shares)},
        'psnr': {name: sum(each) / pictures for name, each in psnr.items()},
        'psnr_difference': {'mean': sum(differences) / pictures, 'farthest': max(differences, key=abs)},
        'pictures': pictures,
    }


def first_picture(size: tuple[int, int]) -> Tensor:
    """(1, 3, h, w) float32 RGB in [0, 1], of photographs."""
    return _picture(size)[0]


def _picture(size: tuple[int, int], number: int = 0) -> tuple[Tensor, Tensor]:
    """(1, 3, h, w) and (1, 3, 4h, 4w), float32 RGB in [0, 1]: a picture of photographs, the first a smaller second."""
    *_, frame = large_frames(number + 1)
    large = frame[: size[0] * SCALE, : size[1] * SCALE]
    small = downsample_uint8(large, SCALE)
    as_batch = [torch.from_numpy(each.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255 for each in (small, large)]
    return as_batch[0], as_batch[1]


def _layer(features: int, size: tuple[int, int], device: torch.device) -> Any:
    """A single bfloat16 3x3 convolution, channels-last, which shows the machine's rate."""
    convolution = nn.Conv2d(features, features, 3, padding=1, device=device, dtype=torch.bfloat16)
    convolution = convolution.requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
    maps = torch.randn(1, features, *size, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(_LAYER_CALLS):
                convolution(maps)

    return run


def _psnr(restored: Tensor, truth: Tensor) -> float:
    return float(10 * torch.log10(255**2 / functional.mse_loss(restored.double(), truth.double())))


def table(result: Mapping[str, Any]) -> str:
    measured_on = result['measured_on']
    height, width = measured_on['input'][-2:]
    lines = [
        f'{measured_on["num_group"]} groups of {measured_on["num_block"]} blocks, {measured_on["num_feat"]} features, '
        f'an input of {width}x{height}, x{SCALE}'
    ]
    for name, seconds in result['seconds'].items():
        line = f'  {name:<24}{seconds:>10.4f} s'
        if name != LAYER:
            line += f'{result["seconds"][STOCK] / seconds:>8.2f} to stock'
            line += f'{memory_in_words(result["peak_memory"][name]):>12}'
        if name in result['operations_per_second']:
            line += f'{result["operations_per_second"][name] / 1e12:>10.3f} TFLOP/s'
        if name in result['layer_share']:
            line += f'{result["layer_share"][name]:>8.1%} of one layer'
            if result['matrix_rate_share']:
                line += f'{result["matrix_rate_share"][name]:>8.1%} of a matrix product'
        lines.append(line)
    lines.append(
        f'  A picture takes {1000 * result["seconds"][OURS]:.1f} ms, {result["ratio"]:.2f} times as fast as stock.'
    )
    lines.append('  bf16 against fp32: it takes trained weights (--weights FILE).')
    return '\n'.join(lines)


def agreement_line(agreement: Mapping[str, Any]) -> str:
    return (
        f'  bf16 against fp32, {agreement["pictures"]} pictures: '
        f'{agreement["within_one_level"]["mean"]:.4%} of values within one grey level (lowest picture: '
        f'{agreement["within_one_level"]["lowest"]:.4%}), PSNR {agreement["psnr"]["bf16"]:.4f} dB for '
        f'{agreement["psnr"]["fp32"]:.4f} (farthest: {agreement["psnr_difference"]["farthest"]:+.5f})'
    )
