"""PDAN for programs that load weights with spandrel, such as chaiNNer and ComfyUI.

Needs torch and spandrel; the toolbox may be absent. A program calls :func:`install` before it loads a model.
"""

from __future__ import annotations

from typing import Any

import torch
from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor, ModelTiling
from torch import Tensor, nn

from pdan_plugin.archs.pdan_arch import PDAN
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.weights.families.family import usual_values
from pdan_plugin.weights.families.pdan_family import PDAN as FAMILY
from pdan_plugin.weights.families.pdan_family import pdan_options

__all__ = ['PDANArch', 'install']


class PDANArch(Architecture[PDAN]):
    """PDAN as an architecture of spandrel: recognises its weights and reads its size from them.

    ``img_range`` and ``rgb_mean`` are not in the weights; they are the defaults, with which `pdan_small` was trained.

    PDAN takes means over the whole picture. A program must therefore give it the whole picture, and the descriptor
    says so: ``tiling`` is INTERNAL. If the memory does not suffice, the network works in tiles that share these means,
    without visible seams. Tiles that a program cuts itself have other means: grey levels jump at their borders.
    """

    def __init__(self) -> None:
        super().__init__(id='PDAN', detect=lambda state: all(name in state for name in FAMILY.names))

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[PDAN]:
        """The network of a state dict, with its weights, in eval mode; a deblurring branch is left out."""
        options = usual_values(pdan_options(state_dict))
        network = PDAN(**options).eval()
        return ImageModelDescriptor(
            network,
            state_dict,
            architecture=self,
            purpose='SR',
            tags=[f'{options["num_feat"]}nf', f'{options["num_group"]}x{options["num_block"]}'],
            supports_half=True,
            supports_bfloat16=False,  # its numbers near 1 are a grey level apart
            scale=options['upscale'],
            input_channels=options['num_in_ch'],
            output_channels=options['num_out_ch'],
            tiling=ModelTiling.INTERNAL,
            call_fn=_InTiles(),
        )


def install(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Adds PDAN to spandrel's architectures; a second call does nothing.

    Args:
        registry: The default is that of every ``spandrel.ModelLoader()``.
    """
    registry.add(ArchSupport.from_architecture(PDANArch()), ignore_duplicates=True)


class _InTiles:
    """Restores (b, c, h, w) in [0, 1], whole or in as few tiles as the free memory allows."""

    def __init__(self) -> None:
        self._restorers: dict[tuple[torch.device, torch.dtype], Restorer] = {}

    def __call__(self, network: PDAN, image: Tensor) -> Tensor:
        own = network.conv_first.weight
        if (own.device, own.dtype) not in self._restorers:
            self._restorers = {(own.device, own.dtype): Restorer(_Uncopied(network), own.device, tile='auto')}
        return self._restorers[own.device, own.dtype](image).to(image.dtype)


class _Uncopied(nn.Module):
    """The program's own network, in its number format. A restorer would otherwise work with a copy of it."""

    def __init__(self, network: PDAN) -> None:
        super().__init__()
        self._held = (network,)  # no part of this module, which a restorer moves and freezes

    def __deepcopy__(self, memo: dict[int, Any]) -> _Uncopied:
        return self

    def forward(self, x: Tensor) -> Tensor:
        network = self._held[0]
        return network(x.to(network.conv_first.weight.dtype))
