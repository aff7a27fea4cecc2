"""Restores pictures as Python programs hold them: NumPy arrays, PIL images and tensors; the result is of the same kind.

Anything whose meaning is in doubt is rejected: another number of channels, numbers without a known white, NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.transparency import restore_layers, with_hidden_colours_filled
from pdan_plugin.restoration.picture_transfer import require_finite
from pdan_plugin.restoration.restorer import Restorer as Engine
from pdan_plugin.synthesis.bicubic import imresize

OnProgress = Callable[[int, int], None]

_BEYOND = 1e-3  # a quarter of a grey level: what rounding may add to [0, 1]
_WHOLE_RANGES = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}
_KEPT_INFO = ('icc_profile', 'exif', 'dpi', 'xmp')
# of an image -> of the result: palettes and one bit become what they show
_MODES = {'1': 'L', 'L': 'L', 'LA': 'LA', 'RGB': 'RGB', 'RGBA': 'RGBA', 'P': 'RGB', 'PA': 'RGBA', 'RGBX': 'RGB'}
_WITH_ALPHA = {'1': 'LA', 'L': 'LA', 'RGB': 'RGBA', 'P': 'RGBA'}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# what a mode that is not taken is converted to; else RGB, or an array
_OTHER_MODES = {'La': 'LA', 'RGBa': 'RGBA'}
_DEEP_MODES = ('I;16', 'I;16L', 'I;16B', 'I;16N')


def restore_tensor(engine: Engine, batch: Tensor, on_progress: OnProgress | None = None) -> Tensor:
    """(b, c, h, w) of floats in [0, 1] -> (b, c, scale * h, scale * w), clipped to [0, 1], of the same type and on the
    same device.

    Raises:
        RequestError: The shape, the type or a value is another.
    """
    if batch.dim() == 3:
        raise RequestError(f'expected a batch (b, {engine.channels}, h, w), got {tuple(batch.shape)}; add [None]')
    if batch.dim() != 4 or batch.shape[1] != engine.channels or 0 in batch.shape:
        are_last = batch.dim() == 4 and batch.shape[3] == engine.channels
        hint = '; permute(0, 3, 1, 2) moves the channels' if are_last else ''
        raise RequestError(f'expected a batch (b, {engine.channels}, h, w), got {tuple(batch.shape)}{hint}')
    if batch.dtype not in _FLOATS:
        hint = '; divide by 255' if batch.dtype == torch.uint8 else ''
        raise RequestError(f'expected a tensor of floats in [0, 1], got {batch.dtype}{hint}')
    if batch.layout != torch.strided or batch.is_meta:
        found = 'no values (device meta)' if batch.is_meta else f'the layout {batch.layout}; give to_dense()'
        raise RequestError(f'expected a plain tensor, got one with {found}')
    least, most = torch.aminmax(batch.detach())
    _refuse_other_range(float(least), float(most), 'the tensor')
    results = []
    for number, picture in enumerate(batch.detach().float().split(1)):
        on_tile = None if on_progress is None else _part_of(on_progress, number, len(batch))
        result = engine(picture, on_tile)
        require_finite(result.isfinite().all())
        results.append(result.clamp_(0, 1).to(device=batch.device, dtype=batch.dtype))
    return results[0] if len(results) == 1 else torch.cat(results)


def restore_array(engine: Engine, array: NDArray[Any], on_progress: OnProgress | None = None) -> NDArray[Any]:
    """(h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGB and alpha; uint8, uint16 or floats in [0, 1] -> the same,
    ``scale`` times as high and wide.

    A network for colours restores a grey picture as three equal channels, and the result is their mean. Alpha is
    enlarged by MATLAB's bicubic.

    Raises:
        RequestError: The shape, the type or a value is another.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise RequestError('expected a plain array, got a masked one; fill it first: array.filled(...)')
    _refuse_other_array(array, engine.channels)
    values = np.asarray(array, array.dtype.newbyteorder('='))
    if values.dtype.kind == 'f':
        _refuse_other_range(float(values.min()), float(values.max()), 'the picture')
        result = _restored_floats(engine, values, on_progress)
    else:
        result = _restored_integers(engine, values, on_progress)
    return np.ascontiguousarray(result, array.dtype)


def restore_image(engine: Engine, image: Image.Image, on_progress: OnProgress | None = None) -> Image.Image:
    """A PIL image -> a new one with the same profile, EXIF and resolution.

    Grey, RGB, both with alpha, and 16-bit grey images keep their mode. A palette becomes RGB (RGBA if it has
    transparency), and one bit becomes grey. EXIF's orientation is kept, not applied.

    Raises:
        RequestError: The mode is another, or the image is empty.
    """
    if 0 in image.size:
        raise RequestError(f'expected an image with pixels, got {image.width}x{image.height}')
    if image.mode in _DEEP_MODES:
        if 'transparency' in image.info:
            raise RequestError(
                'the 16-bit image has a transparent value, and PIL has no 16-bit image with alpha; delete '
                "image.info['transparency'], or use restore_file(source, target)"
            )
        deep = np.asarray(image).astype(np.uint16)
        restored = Image.fromarray(restore_array(engine, deep, on_progress))
    else:
        has_key = 'transparency' in image.info  # one colour, or entries of a palette, are transparent
        mode = (_WITH_ALPHA if has_key else _MODES).get(image.mode, _MODES.get(image.mode))
        if mode is None:
            other = _OTHER_MODES.get(image.mode, 'RGB')
            hint = 'np.asarray(image) with the right type' if image.mode in 'IF' else f'image.convert({other!r})'
            raise RequestError(
                f'expected an image of mode {", ".join((*_MODES, _DEEP_MODES[0]))}, got {image.mode}; give {hint}'
            )
        restored = _restored_mode(engine, image, mode, on_progress)
    restored.info.update({key: image.info[key] for key in _KEPT_INFO if key in image.info})
    return restored


def _restored_mode(engine: Engine, image: Image.Image, mode: str, on_progress: OnProgress | None) -> Image.Image:
    pixels = np.asarray(image.convert('RGBA' if mode == 'LA' else mode))
    if mode != 'LA':
        return Image.fromarray(restore_array(engine, pixels, on_progress))
    _refuse_other_array(pixels, engine.channels)
    picture = restore_layers(engine, Picture(pixels[..., :3], pixels[..., 3], is_grey=True), on_progress)
    return Image.fromarray(_with_alpha(picture)).convert('LA')


def _restored_integers(engine: Engine, values: NDArray[Any], on_progress: OnProgress | None) -> NDArray[Any]:
    if values.ndim == 2 and engine.channels == 1:
        return engine.restore_picture(values[..., None], on_progress)[..., 0]
    if values.shape[2:] == (engine.channels,):
        return engine.restore_picture(values, on_progress)
    colour, alpha, is_grey = _layers(values)
    picture = restore_layers(engine, Picture(colour, alpha, is_grey), on_progress)
    if picture.alpha is not None:
        return _with_alpha(picture)
    return picture.colour if not is_grey else picture.colour[..., 0].reshape(_same_axes(values, picture.colour))


def _restored_floats(engine: Engine, values: NDArray[Any], on_progress: OnProgress | None) -> NDArray[Any]:
    def restored(colour: NDArray[Any]) -> NDArray[Any]:
        batch = torch.from_numpy(np.ascontiguousarray(colour, np.float32)).permute(2, 0, 1)[None]
        result = engine(batch, on_progress)
        require_finite(result.isfinite().all())
        return result[0].clamp_(0, 1).permute(1, 2, 0).cpu().numpy()

    if values.ndim == 2 and engine.channels == 1:
        return restored(values[..., None])[..., 0]
    if values.shape[2:] == (engine.channels,):
        return restored(values)
    colour, alpha, is_grey = _layers(values)
    if alpha is None:
        result = restored(colour)
        return result if not is_grey else result.mean(axis=2).reshape(_same_axes(values, result))
    result = restored(with_hidden_colours_filled(colour, alpha))
    plane = imresize(torch.from_numpy(np.ascontiguousarray(alpha, np.float32)), engine.scale).clamp_(0, 1)
    return np.concatenate([result, plane.numpy()[..., None]], axis=2)


def _layers(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None, bool]:
    """Colour (h, w, 3), alpha (h, w) or None, and whether the picture is grey."""
    if values.ndim == 2 or values.shape[2] == 1:
        return np.repeat(values.reshape(*values.shape[:2], 1), 3, axis=2), None, True
    return values[..., :3], values[..., 3] if values.shape[2] == 4 else None, False


def _with_alpha(picture: Picture) -> NDArray[Any]:
    assert picture.alpha is not None
    return np.concatenate([picture.colour, picture.alpha[..., None]], axis=2)


def _same_axes(values: NDArray[Any], result: NDArray[Any]) -> tuple[int, ...]:
    return (*result.shape[:2], *values.shape[2:])


def _refuse_other_array(array: NDArray[Any], channels: int) -> None:
    shape = array.shape
    shapes = '(h, w), (h, w, 1)' if channels == 1 else f'(h, w), (h, w, 1), (h, w, {channels}) or (h, w, 4)'
    is_grey = array.ndim == 2 or shape[2:] == (1,)
    is_known = array.ndim in (2, 3) and (is_grey or shape[2] in ((channels, 4) if channels == 3 else (channels,)))
    if not is_known or (is_grey and channels not in (1, 3)):
        hint = ''
        if array.ndim == 4:
            hint = '; restore the pictures of a batch one by one'
        elif array.ndim == 3 and shape[0] in (1, 3, 4):
            hint = '; transpose(1, 2, 0) moves the channels to the end'
        elif array.ndim == 3 and shape[2] == 3:
            hint = f'; this network restores pictures of {channels} channel{"s" * (channels > 1)}'
        raise RequestError(f'expected a picture {shapes}, got {shape}{hint}')
    if 0 in shape:
        raise RequestError(f'expected a picture with pixels, got the shape {shape}')
    if array.dtype.kind != 'f' and array.dtype.newbyteorder('=') not in _WHOLE_RANGES:
        hint = '; convert it to one of them' if array.dtype.kind in 'biu' else ''
        raise RequestError(f'expected a picture of uint8, uint16, or floats in [0, 1], got {array.dtype}{hint}')


def _refuse_other_range(least: float, most: float, what: str) -> None:
    if not (np.isfinite(least) and np.isfinite(most)):
        raise RequestError(f'{what} has values that are NaN or infinite; expected [0, 1]')
    if least < -_BEYOND or most > 1 + _BEYOND:
        hint = '; divide by 255' if least >= 0 and 1.5 < most <= 255 else '; clip it if that is meant'
        raise RequestError(f'{what} has values from {least:.4g} to {most:.4g}; expected [0, 1]{hint}')


def _part_of(on_progress: OnProgress, number: int, count: int) -> OnProgress:
    """For one picture of a batch: counts the pictures before it as done."""
    return lambda done, total: on_progress(number * total + done, count * total)
