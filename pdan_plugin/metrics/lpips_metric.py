"""LPIPS: perceptual distance of two pictures by a trained network (Zhang et al., CVPR 2018); lower is better."""

from __future__ import annotations

import importlib
import math
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.metrics.metric_util import reorder_image
from basicsr.utils.registry import METRIC_REGISTRY
from numpy.typing import NDArray
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import file_digest
from pdan_plugin.machine.cores import let_forked_processes_compute
from pdan_plugin.metrics.noted_once import note_once

# The files of torchvision; the end of each name is the start of the file's SHA-256.
_BACKBONES = {
    'alex': 'alexnet-owt-7be5be79.pth',
    'vgg': 'vgg16-397923af.pth',
    'squeeze': 'squeezenet1_1-b8a52dc0.pth',
}
_SOURCE = 'https://download.pytorch.org/models/'
_SMALLEST = 32  # pixels; with fewer, the last layers of the backbone get an empty input

_networks: dict[tuple[str, Path, str], nn.Module] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, 'register_at_fork'):  # a thread that scores holds the lock at the moment of a fork
    os.register_at_fork(after_in_child=_renew_lock)


@METRIC_REGISTRY.register()
def calculate_lpips(
    img: NDArray,
    img2: NDArray,
    crop_border: int,
    input_order: str = 'HWC',
    net: str = 'alex',
    weights: str | None = None,
    device: str = 'cpu',
    **kwargs: Any,
) -> float:
    """LPIPS 0.1 of two pictures, with the linear heads of the package ``lpips``.

    The backbone's weights are torchvision's file, in torch's cache or at ``weights``. They are never downloaded, but
    loaded once per process. `prepare` loads them before the first picture.

    Args:
        img: (h, w, 3), or (3, h, w), BGR, [0, 255]. With less than 32 x 32 pixels inside the border there is no value:
            nan, which the log reports.
        img2: The same shape.
        crop_border: Pixels to leave out at each border.
        input_order: 'HWC' or 'CHW'.
        net: The backbone: 'alex' (used for most published scores), 'vgg' or 'squeeze'.
        weights: Path of the backbone's weights file; None for torch's cache.
        device: The device to compute on. On the GPU that restores, the scoring adds to the measured time and memory.
        kwargs: Not used.

    Raises:
        RequestError: The package or the weights are missing, the weights do not fit the backbone, or the pictures are
            not colour pictures of one size.
    """
    for picture in (img, img2):
        if picture.ndim != 3 or reorder_image(picture, input_order=input_order).shape[2] != 3:
            raise RequestError(f'LPIPS compares colour pictures; expected three channels, found shape {picture.shape}')
    if img.shape != img2.shape:
        raise RequestError(f'LPIPS: the pictures are of different shapes: {img.shape}, {img2.shape}')
    pair = [reorder_image(each, input_order=input_order) for each in (img, img2)]
    if crop_border != 0:
        pair = [each[crop_border:-crop_border, crop_border:-crop_border] for each in pair]
    try:
        refuse_small(*pair[0].shape[:2])
    except RequestError as error:
        note_once(f'{error}; scored as nan')
        return math.nan
    network = load_lpips(net, weights, device)
    # one pair at a time: it already uses the whole processor, and its activations need memory
    with _lock, torch.inference_mode():
        distance = network(*(_as_input(each).to(device) for each in pair))
    return float(distance)


def refuse_small(height: int, width: int, crop_border: int = 0, **kwargs: Any) -> None:
    """Raises a RequestError if pictures of this size have no value."""
    height, width = (max(0, side - 2 * crop_border) for side in (height, width))
    if min(height, width) < _SMALLEST:
        raise RequestError(f'LPIPS needs at least {_SMALLEST}x{_SMALLEST} pixels, found {width}x{height}')


def prepare(net: str = 'alex', weights: str | None = None, device: str = 'cpu', **kwargs: Any) -> None:
    """Loads what `calculate_lpips` needs, so that missing files are reported before a run computes anything.

    Raises:
        RequestError: See `calculate_lpips`.
    """
    load_lpips(net, weights, device)


calculate_lpips.prepare = prepare  # pyright: ignore[reportFunctionMemberAccess]
calculate_lpips.refuse_small = refuse_small  # pyright: ignore[reportFunctionMemberAccess]


def load_lpips(net: str = 'alex', weights: str | None = None, device: str = 'cpu') -> nn.Module:
    """The network that compares two batches (b, 3, h, w) RGB, [-1, 1]; later calls return the same one.

    Raises:
        RequestError: See `calculate_lpips`.
    """
    if net not in _BACKBONES:
        raise RequestError(f'net: {net!r}; expected one of {", ".join(_BACKBONES)}')
    let_forked_processes_compute()
    file = _weights_file(net, weights)
    key = (net, file.resolve(), str(device))
    with _lock:
        if key not in _networks:
            _networks[key] = _load(net, file).to(device)
        return _networks[key]


def _weights_file(net: str, weights: str | None) -> Path:
    name = _BACKBONES[net]
    file = Path(torch.hub.get_dir(), 'checkpoints', name) if weights is None else Path(weights).expanduser()
    if not file.is_file():
        where = f'as {file}' if weights is None else f'at {file}'
        raise RequestError(
            f"LPIPS needs its backbone's weights {where}, and there is no such file. Fetch {_SOURCE}{name} and put it "
            'there, or set weights: PATH. Nothing is downloaded automatically'
        )
    return file


def _load(net: str, file: Path) -> nn.Module:
    try:
        package = importlib.import_module('lpips')
    except ImportError as error:
        raise RequestError(f'LPIPS needs the package lpips ({error}): pip install lpips') from error
    if file.name == _BACKBONES[net]:
        _check_digest(file)
    try:
        state = torch.load(file, map_location='cpu', weights_only=True)
    except Exception as error:
        raise RequestError(f'{file}: cannot be read safely as a weights file: {error}') from error
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the package uses deprecated arguments of torchvision
        network = package.LPIPS(net=net, version='0.1', pnet_rand=True, verbose=False)
    own = network.net.state_dict()
    # the package splits torchvision's `features` into slices and keeps the layers' numbers
    wanted = {name: f'features.{name.partition(".")[2]}' for name in own}
    if not isinstance(state, dict):
        raise RequestError(f'{file}: holds {type(state).__name__}, expected the weights of {_BACKBONES[net]}')
    for name, published in wanted.items():
        found = state.get(published)
        if not isinstance(found, Tensor) or found.shape != own[name].shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else 'nothing'
            raise RequestError(
                f'{file}: {published} is {shape}, expected {tuple(own[name].shape)}; net: {net} needs the file '
                f'{_BACKBONES[net]} ({_SOURCE}{_BACKBONES[net]})'
            )
        if not torch.isfinite(found).all():
            raise RequestError(f'{file}: {published} holds numbers that are not finite; fetch the file again')
    network.net.load_state_dict({name: state[published] for name, published in wanted.items()})
    return network.eval().requires_grad_(False)


def _check_digest(file: Path) -> None:
    expected = file.stem.rpartition('-')[2]
    found = file_digest(file)
    if not found.startswith(expected):
        raise RequestError(
            f'{file}: its SHA-256 begins with {found[: len(expected)]}, expected {expected}; the file is damaged or '
            f'a different one. Fetch {_SOURCE}{file.name} again'
        )


def _as_input(picture: NDArray) -> Tensor:
    """(h, w, 3) BGR, [0, 255] -> (1, 3, h, w) RGB, [-1, 1]."""
    rgb = picture[..., ::-1].transpose(2, 0, 1).astype(np.float32)
    return torch.from_numpy(rgb / 127.5 - 1).unsqueeze(0)
