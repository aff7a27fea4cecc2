"""What every network of this package does: any size, finite gradients, both layouts, weights there and back, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from pdan_plugin.archs.drn_arch import DRN, DownBlock


@dataclass(frozen=True)
class Case:
    """A network as an option file names it, and how to get all its outputs."""

    options: dict[str, Any]
    forward: Callable[[nn.Module, Tensor], list[Tensor]]
    scales: tuple[float, ...]  # of each output against the input
    export_any_size: bool = True  # False: it computes its kernel from the size, in Python

    def build(self) -> nn.Module:
        return build_network(dict(self.options))

    def outputs(self, network: nn.Module, picture: Tensor) -> list[Tensor]:
        return self.forward(network, picture)


class DRNWithDualNetworks(DRN):
    """DRN and the dual networks as DualRegressionModel trains them: from each result back to the size below it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.duals = nn.ModuleList(DownBlock(3, 16, 3) for _ in self.down)

    def all_results(self, picture: Tensor) -> list[Tensor]:
        results = super().forward(picture, return_all=True)
        return [*results, *(dual(result) for dual, result in zip(self.duals, results[1:], strict=True))]


def only(network: nn.Module, picture: Tensor) -> list[Tensor]:
    return [network(picture)]


def with_lr(network: nn.Module, picture: Tensor) -> list[Tensor]:
    return list(network(picture, return_lr=True))


def every_scale(network: nn.Module, picture: Tensor) -> list[Tensor]:
    return network(picture, return_all=True)


def pdan(forward: Callable = with_lr, **arguments: Any) -> Case:
    sizes = {'num_feat': 16, 'num_group': 2, 'num_block': 1, 'squeeze_factor': 2, 'fuse_levels': 2}
    upscale = arguments.get('upscale', 4)
    scales = (upscale, 1) if forward is with_lr else (upscale,)
    return Case({'type': 'PDAN', **sizes, **arguments}, forward, scales)


def drn(upscale: int) -> Case:
    scales = tuple(2**level for level in range(upscale.bit_length()))
    return Case({'type': 'DRN', 'num_block': 1, 'upscale': upscale}, every_scale, scales)


class DualCase(Case):
    def build(self) -> nn.Module:
        return DRNWithDualNetworks(**{key: value for key, value in self.options.items() if key != 'type'})


CASES = {
    'PDAN': pdan(),
    'PDAN at inference': pdan(only, deblur_branch=False),
    'PDAN with checkpointing': pdan(checkpointing=True),
    'PDAN with channel attention': pdan(attention='ca'),
    'PDAN fusing one group': pdan(fuse_levels=1),
    'PDAN without fusing': pdan(fuse_levels=0),
    'PDAN as RCAN': pdan(only, attention='ca', fuse_levels=0, deblur_branch=False),
    'PDAN 2x': pdan(upscale=2),
    'PDAN 3x': pdan(upscale=3),
    'DRN': drn(4),
    'DRN 2x': drn(2),
    'DRN with dual networks': DualCase(
        {'type': 'DRN', 'num_block': 1}, lambda network, picture: network.all_results(picture), (1, 2, 4, 1, 2)
    ),
    'Bicubic': Case({'type': 'Bicubic'}, only, (4,), export_any_size=False),
    'Bicubic 3x': Case({'type': 'Bicubic', 'upscale': 3}, only, (3,), export_any_size=False),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_no_registered_arch_of_this_package_is_left_out() -> None:
    registered = {name for name, each in ARCH_REGISTRY if each.__module__.startswith('pdan_plugin.')}
    assert {case.options['type'] for case in CASES.values()} == registered


@pytest.mark.parametrize('size', [(1, 1), (5, 7), (16, 9)])
def test_any_size_gives_finite_results_of_its_scale(case: Case, size: tuple[int, int]) -> None:
    height, width = size
    outputs = case.outputs(case.build(), torch.rand(2, 3, height, width))
    assert [tuple(output.shape) for output in outputs] == [(2, 3, s * height, s * width) for s in case.scales]
    assert all(output.isfinite().all() for output in outputs)


@pytest.mark.parametrize('size', [(9, 10), (8, 8)])
@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
def test_every_parameter_gets_a_finite_gradient(case: Case, size: tuple[int, int], precision: torch.dtype) -> None:
    network, picture = case.build().train(), torch.rand(2, 3, *size, requires_grad=True)
    with torch.autocast('cpu', dtype=precision, enabled=precision is not torch.float32):
        outputs = case.outputs(network, picture)
    torch.stack([output.float().square().mean() for output in outputs]).sum().backward()
    gradients = {'the picture': picture.grad, **{name: each.grad for name, each in network.named_parameters()}}
    without = [name for name, each in gradients.items() if each is None or not each.any() or not each.isfinite().all()]
    assert without == []


def test_channels_last_computes_the_same(case: Case) -> None:
    """In float64, where a mistake is not taken for rounding; values, gradients and the layout of the result."""
    plain, last = case.build().double(), case.build().double()
    last.load_state_dict(plain.state_dict())
    last = last.to(memory_format=torch.channels_last)
    picture = torch.rand(2, 3, 9, 10, dtype=torch.float64)
    results = []
    for network, layout in ((plain, torch.contiguous_format), (last, torch.channels_last)):
        own = picture.clone(memory_format=layout).requires_grad_()
        outputs = case.outputs(network, own)
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        results.append([*outputs, own.grad, *(each.grad for each in network.parameters())])
    torch.testing.assert_close(*results)
    with torch.no_grad():
        at_inference = [case.outputs(network.eval(), picture) for network in (plain, last)]
    torch.testing.assert_close(*at_inference)


def test_a_weights_file_brings_the_same_network_back(case: Case, tmp_path: Path) -> None:
    network, again = case.build().eval(), case.build().eval()
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    again.load_state_dict(torch.load(tmp_path / 'weights.pth', weights_only=True), strict=True)
    assert list(again.state_dict()) == list(network.state_dict())
    picture = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        for one, other in zip(case.outputs(network, picture), case.outputs(again, picture), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_exported_program_computes_the_same(case: Case) -> None:
    """One program for every size, where the network allows it."""
    network = case.build().eval()
    free = {2: torch.export.Dim('height', min=2), 3: torch.export.Dim('width', min=2)}
    sizes = [(8, 12), (33, 17)] if case.export_any_size else [(8, 12)]
    with torch.no_grad():
        program = torch.export.export(
            network, (torch.rand(2, 3, 8, 12),), dynamic_shapes=(free,) if case.export_any_size else None
        ).module()
        for size in sizes:
            picture = torch.rand(2, 3, *size)
            torch.testing.assert_close(program(picture), network(picture))  # computed after the export, eagerly
