"""Networks of the package spandrel, which recognises the weights of over forty families by their tensors."""

from __future__ import annotations

import importlib
from typing import Any

from torch import Tensor, nn

from pdan_plugin.errors import RequestError

TYPE = 'spandrel'  # of such a network in a file that `export` has written
INSTALL = 'pip install "pdan-plugin[spandrel]"'


class SpandrelNetwork(nn.Module):
    """A network that spandrel built: (b, c, h, w) in [0, 1] -> (b, c, scale * h, scale * w), clipped to [0, 1].

    spandrel extends a picture that is too small for the network, and crops the result. The weights have the network's
    own names.

    Args:
        descriptor: spandrel's ``ImageModelDescriptor``.

    Attributes:
        window_size: Heights and widths must be multiples of this. spandrel would extend others, and the tiles of a
            picture would not fit together: whoever restores with this network must see the multiple.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model
        self.descriptor = descriptor
        self.window_size: int = descriptor.size_requirements.multiple_of

    def forward(self, x: Tensor) -> Tensor:
        if any(side % self.window_size for side in x.shape[-2:]):
            raise ValueError(f'expected a multiple of {self.window_size} as height and width, got {tuple(x.shape)}')
        return self.descriptor(x)

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        return self.model.state_dict(*arguments, **named)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        return self.model.load_state_dict(state_dict, strict=strict, assign=assign)


def find_spandrel() -> Any | None:
    """The package spandrel; None if it is not installed."""
    try:
        return importlib.import_module('spandrel')
    except ImportError:
        return None


def network_by_spandrel(spandrel: Any, content: Any, source: str) -> tuple[dict[str, Any], SpandrelNetwork] | str:
    """The network that spandrel recognises in a file's content, with its weights.

    Returns:
        A description of the network (``type: spandrel``) and the network; or, if spandrel cannot load it, the reason.

    Raises:
        RequestError: spandrel recognises a network that does not restore pictures.
    """
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(dict(content))
    except spandrel.UnsupportedModelError:
        return f'spandrel {spandrel.__version__} does not know it among its {len(spandrel.MAIN_REGISTRY)} families'
    except Exception as error:  # each family reads the tensors in its own way
        return f'spandrel {spandrel.__version__} failed: {type(error).__name__}: {str(error).strip().splitlines()[:1]}'
    kind = descriptor.architecture.name
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.purpose == 'FaceSR':
        what = 'faces that were cut out' if descriptor.purpose == 'FaceSR' else 'pictures with a mask'
        raise RequestError(f'{source}: {kind} restores {what}; expected weights that restore whole pictures.')
    channels = descriptor.input_channels, descriptor.output_channels
    if channels[0] != channels[1]:
        raise RequestError(
            f'{source}: {kind} takes {channels[0]} channels and gives {channels[1]}; expected the same number.'
        )
    network = SpandrelNetwork(descriptor).eval().requires_grad_(False)
    options = {'type': TYPE, 'architecture': kind, 'scale': descriptor.scale, 'num_in_ch': channels[0]}
    return options, network
