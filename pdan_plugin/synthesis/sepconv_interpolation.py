"""Interpolates frames by adaptive separable convolution, the interpolation of the PDAN paper.

Niklaus, Mai, Liu, "Video Frame Interpolation via Adaptive Separable Convolution", ICCV 2017. From both frames a network
computes two 51 x 51 kernels, one for each frame, for every pixel of the frame halfway between them. A kernel is stored
as a column and a row of 51 numbers. The network makes only halfway frames; others are made by repeated halving.

The weights are the authors': ``network-l1.pytorch`` (lowest error) or ``network-lf.pytorch`` (best perceptual quality)
of https://github.com/sniklaus/sepconv-slomo. Its readme allows academic use only; this package does not include them.

Two paddings are published there. This is the newer, "improved" one: the right and lower edge are repeated up to a
multiple of 128; left and top are not padded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import digest_of

_TAPS = 51
_PADDED_TO = 128
_TILE = 32  # columns that separable_convolution takes together
_PROJECT = 'https://github.com/sniklaus/sepconv-slomo'
_WHICH_FILE = f'network-l1.pytorch or network-lf.pytorch of {_PROJECT} (academic use only)'


class SepconvInterpolation:
    """The method ``sepconv``: frames of any size, ``count`` a power of two.

    A 720p frame takes about 2 GB and, on one core, about 17 s; both grow with the number of pixels.

    Args:
        weights: The authors' weights file; required.
        device: A torch device such as 'cpu' or 'cuda:0'. Frames from different kinds of device may differ in rounding.

    Raises:
        RequestError: No weights, a file without these weights, or a device that cannot be used.
    """

    name = 'sepconv'

    def __init__(self, weights: Path | None, device: str = 'cpu') -> None:
        if weights is None:
            raise RequestError(
                "The interpolator sepconv needs its authors' weights, which this package does not include: get "
                f'{_WHICH_FILE}, and pass it with --weights FILE.'
            )
        state, digest = _read_weights(weights)
        self._device = _usable(device)
        self._network = SepconvNetwork()
        _fill(self._network, state, weights)
        self._network.to(self._device).eval()
        self.settings: dict[str, Any] = {
            'method': self.name,
            'weights_sha256': digest,
            'torch': str(torch.__version__),
            'device': self._device.type,
        }

    def check_count(self, count: int) -> None:
        """Raises RequestError unless ``count`` is 1, 2, 4, 8 and so on."""
        if count < 1 or count & (count - 1):
            below = 1 << max(count, 1).bit_length() - 1
            nearest = f'the nearest are {below} and {2 * below}' if count > 0 else 'the least is 1'
            raise RequestError(
                'The interpolator sepconv makes frames halfway between frames, so the factor must be a power of two, '
                f'not {count}: {nearest}.'
            )

    def between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """See :class:`~pdan_plugin.synthesis.frame_interpolation.Interpolator`.

        As published, halfway frames are fed back to the network unrounded. Only the yielded frames are clipped and
        rounded to whole grey levels.

        Raises:
            RequestError: ``count`` is not a power of two, or the frames are not uint8 (h, w, 3) of one size.
        """
        self.check_count(count)
        for frame in (first, second):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != first.shape:
                raise RequestError(
                    f'No frames can be made between a frame of {first.dtype} {first.shape} and one of {second.dtype} '
                    f'{second.shape}: both have to be uint8 of one shape (height, width, 3).'
                )
        if np.array_equal(first, second):
            return (first.copy() for _ in range(1, count))
        return self._frames_between(first, second, count)

    def _frames_between(self, first: np.ndarray, second: np.ndarray, count: int) -> Iterator[np.ndarray]:
        for halfway in self._halved(_as_input(first, self._device), _as_input(second, self._device), count):
            yield _as_frame(halfway)

    def _halved(self, first: Tensor, second: Tensor, count: int) -> Iterator[Tensor]:
        if count > 1:
            halfway = self._halfway(first, second)
            yield from self._halved(first, halfway, count // 2)
            yield halfway
            yield from self._halved(halfway, second, count // 2)

    # Decorators: a `with` around a yield would also apply to the caller's code between two frames.
    @torch.no_grad()
    @torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    def _halfway(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        edges = (0, -width % _PADDED_TO, 0, -height % _PADDED_TO)
        padded = (functional.pad(frame, edges, mode='replicate') for frame in (first, second))
        return self._network(*padded)[..., :height, :width].contiguous()


class SepconvNetwork(nn.ModuleDict):
    """The published network. The names of its parameters are the published ones without 'module' or 'net' in front.

    ``forward`` takes two frames and returns the one between them, all (1, 3, height, width) in BGR order, 0 to 1 (the
    result may slightly exceed these limits). Height and width must be multiples of 32.
    """

    def __init__(self) -> None:
        widths = (6, 32, 64, 128, 256, 512)
        parts = {f'Conv{level}': _three(widths[level - 1], widths[level]) for level in range(1, 6)}
        for level in range(5, 1, -1):
            parts[f'Deconv{level}'] = _three(widths[min(level + 1, 5)], widths[level])
            parts[f'Upsample{level}'] = nn.Sequential(_Doubled(), _convolution(widths[level], widths[level]), nn.ReLU())
        for frame in (1, 2):
            parts[f'Vertical{frame}'] = _kernels()
            parts[f'Horizontal{frame}'] = _kernels()
        super().__init__(parts)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        features = self._features(torch.cat([first, second], dim=1))
        return self._share(1, first, features) + self._share(2, second, features)

    def _features(self, frames: Tensor) -> Tensor:
        passed_on: dict[int, Tensor] = {}
        features = frames
        for level in range(1, 6):
            features = self[f'Conv{level}'](features)
            if level > 1:
                passed_on[level] = features
            features = functional.avg_pool2d(features, 2)
        for level in range(5, 1, -1):
            features = self[f'Upsample{level}'](self[f'Deconv{level}'](features)) + passed_on.pop(level)
        return features

    def _share(self, number: int, frame: Tensor, features: Tensor) -> Tensor:
        """The contribution of one of the two frames to the frame between them."""
        vertical, horizontal = (self[f'{way}{number}'](features)[0] for way in ('Vertical', 'Horizontal'))
        surrounded = functional.pad(frame, [_TAPS // 2] * 4, mode='replicate')[0]
        return separable_convolution(surrounded, vertical, horizontal)[None]


def separable_convolution(image: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Filters every pixel with its own kernel, the product of a column and a row.

        result[c, y, x] = sum over i, j of image[c, y + i, x + j] * vertical[i, y, x] * horizontal[j, y, x]

    Works row by row, so it needs only some megabytes beyond its arguments and result. The horizontal kernels of
    neighbouring pixels in a row form a banded matrix, and a matrix product computes their sums.

    Args:
        image: (channels, height + taps - 1, width + taps - 1).
        vertical: (taps, height, width).
        horizontal: (taps, height, width).

    Returns:
        (channels, height, width).
    """
    taps, height, width = vertical.shape
    channels = image.shape[0]
    tiles = -(-width // _TILE)
    spare = (0, tiles * _TILE - width)
    vertical, horizontal = functional.pad(vertical, spare), functional.pad(horizontal, spare)
    # Line c of row y becomes line y * channels + c, so the lines under a row's kernels are consecutive.
    lines = functional.pad(image, spare).transpose(0, 1).flatten(0, 1)
    windows = lines.unfold(0, taps * channels, channels).unfold(1, _TILE + taps - 1, _TILE)
    result = image.new_empty(channels, height, width)
    for row in range(height):
        # bmm: matmul would copy the overlapping windows.
        summed = torch.bmm(windows[row], _bands(horizontal[:, row])).unflatten(1, (taps, channels))
        columns = vertical[:, row].unflatten(1, (tiles, _TILE)).transpose(0, 1).unsqueeze(2)
        result[:, row] = (summed * columns).sum(1).transpose(0, 1).flatten(1)[:, :width]
    return result


def _bands(kernels: Tensor) -> Tensor:
    """(taps, tiles * T) to (tiles, T + taps - 1, T): the kernel of column t of a tile begins at line t."""
    each = kernels.unflatten(1, (-1, _TILE)).permute(1, 2, 0)
    # Each kernel is followed by T zeros. Reading them again with rows one number shorter shifts each kernel by one.
    length = _TILE + kernels.shape[0] - 1
    return functional.pad(each, (0, _TILE)).flatten(1)[:, : _TILE * length].unflatten(1, (_TILE, length)).mT


class _Doubled(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        # align_corners=True: torch's default when the weights were trained.
        return functional.interpolate(features, scale_factor=2, mode='bilinear', align_corners=True)


def _convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)


def _three(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out, channels_out):
        layers += [_convolution(channels, channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _kernels() -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (64, 64, _TAPS):
        layers += [_convolution(64, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, _Doubled(), _convolution(_TAPS, _TAPS))


def _as_input(frame: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (h, w, 3) RGB to float32 (1, 3, h, w) BGR, 0 to 1."""
    channels = np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(channels).to(device, torch.float32)[None] / 255


def _as_frame(halfway: Tensor) -> np.ndarray:
    levels = (halfway[0] * 255).round().clamp(0, 255).to('cpu', torch.uint8)
    return np.ascontiguousarray(levels.numpy().transpose(1, 2, 0)[..., ::-1])


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # the latter from a torch built without CUDA
        reason = str(error).partition('\n')[0]
        raise RequestError(
            f'{device}: torch cannot use this device here ({reason}); use cpu, or an available device.'
        ) from error


def _read_weights(path: Path) -> tuple[Mapping[str, Tensor], str]:
    """The tensors by name, and the SHA-256 of the file they were read from."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(
            f'{path}: cannot be read: {error.strerror or error}; --weights takes {_WHICH_FILE}.'
        ) from error
    try:
        state = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        raise RequestError(
            f'{path}: is damaged, or holds more than tensors (such a file could run code, so it is not loaded); '
            f'--weights takes {_WHICH_FILE}.'
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise RequestError(f'{path}: holds no table of names and tensors; --weights takes {_WHICH_FILE}.')
    return state, digest_of(content)


def _fill(network: SepconvNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights under the published names ('moduleConv1.0.weight') or newer ones ('netConv1.0.weight')."""
    spelt = {name: name.removeprefix('module').removeprefix('net') for name in state}
    expected = network.state_dict()
    faults = [
        [f'module{name} is missing' for name in expected if name not in spelt.values()],
        [f'{name} is not part of it' for name, part in spelt.items() if part not in expected],
        [
            f'{name} is {tuple(state[name].shape)} and should be {tuple(expected[part].shape)}'
            for name, part in spelt.items()
            if part in expected and state[name].shape != expected[part].shape
        ],
    ]
    if any(faults):
        first_ones = [fault for kind in faults for fault in kind[:2]]
        more = sum(map(len, faults)) - len(first_ones)
        raise RequestError(
            f'{path}: not the weights of sepconv: {"; ".join(first_ones)}{f"; and {more} more" if more else ""}. '
            f'--weights takes {_WHICH_FILE}.'
        )
    network.load_state_dict({part: state[name] for name, part in spelt.items()})
