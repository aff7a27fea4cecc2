"""Weights files: the toolbox's form and safetensors are read, safetensors is written; no code in a file is ever run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from basicsr.utils import get_root_logger
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from pdan_plugin.errors import RequestError, refusing_unwritable, some_of
from pdan_plugin.files.torch_files import SAVED_ANEW, loading_reason, refuse_code
from pdan_plugin.files.whole_files import write_whole

_HEADER_LENGTH = 8  # bytes a safetensors file begins with: the length of its JSON header, little-endian
FLOAT16_MAX = torch.finfo(torch.float16).max


def read_weights(path: str, param_key: str | None = 'params') -> dict[str, Tensor]:
    """Reads the network weights out of a weights file, on the CPU; no code in the file is ever run.

    ``param_key`` is for the toolbox's form: 'params_ema' falls back to 'params' where the file has no moving average,
    as in the toolbox, and says so. A safetensors file holds one set of weights, under no key: it is read for 'params',
    'params_ema' and None alike, and a line in the log says if its maker noted that it is the other of the two.

    Raises:
        RequestError: no such file, no weights file, or no such key; the message lists the keys there are.
    """
    if is_safetensors(path):
        return _read_safetensors(path, param_key)
    content = _read(path)
    if param_key is not None:
        content = _chosen(content, param_key, path)
    return _as_weights(content, path)


def read_any_weights(path: str) -> tuple[dict[str, Tensor], str | None]:
    """Reads the weights to use: the moving average, else ``params``, else a file that is nothing but weights.

    Returns:
        The weights, and which they are: 'params_ema', 'params', or None where the file does not say.

    Raises:
        RequestError: as :func:`read_weights`.
    """
    if is_safetensors(path):
        return _read_safetensors(path, None), read_metadata(path).get('param_key')
    content = _read(path)
    for key in ('params_ema', 'params'):
        if isinstance(content, dict) and key in content:
            return _as_weights(_chosen(content, 'params_ema', path), path), key
    return _as_weights(content, path), None


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is to be read as safetensors: it has that ending, or it begins as one under another name."""
    if str(path).lower().endswith('.safetensors'):
        return True
    if not os.path.isfile(path):
        return False
    try:
        with open(path, 'rb') as file:
            start = file.read(_HEADER_LENGTH + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError:  # said by who reads it
        return False
    length = int.from_bytes(start[:_HEADER_LENGTH], 'little')
    return start[_HEADER_LENGTH:] == b'{' and length <= size - _HEADER_LENGTH


def refuse_what_is_no_file(path: str | Path) -> None:
    """A RequestError for a path at which there is nothing, a folder, or a pipe or device, on which reading may wait."""
    if os.path.isdir(path):
        raise RequestError(f'{path} is a folder; give the weights file in it.')
    if not os.path.exists(path):
        raise RequestError(f'{path}: no such weights file.')
    if not os.path.isfile(path):
        raise RequestError(f'{path} is a pipe or a device; give the weights as a file.')


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts a safetensors file carries beside its tensors; empty where there are none.

    Raises:
        RequestError: no such file, or no whole safetensors file.
    """
    with _opened(str(path)) as file:
        return file.metadata() or {}


def write_safetensors(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes weights and the texts that describe them; the path then holds the whole new file, or what it held before.

    Raises:
        RequestError: the place cannot be written to.
    """
    # copies: tensors of one memory, and such as are laid out channels-last, have no form in the file
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    with refusing_unwritable(path):
        write_whole(path, safetensors_bytes(plain, metadata={'format': 'pt', **metadata}), durable=True)


def in_float16(weights: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """The weights with every float32 or float64 tensor in float16.

    Raises:
        RequestError: a value is beyond float16's range; the message names the tensor. ``source`` is the file's name.
    """
    for name, value in weights.items():
        if value.is_floating_point() and value.numel() and not value.abs().max() <= FLOAT16_MAX:
            raise RequestError(
                f'{source}: {name} holds {value.abs().max():.3g}, which float16 (at most {FLOAT16_MAX:.0f}) cannot. '
                'Leave --fp16 out.'
            )
    wide = (torch.float32, torch.float64)
    return {name: value.half() if value.dtype in wide else value for name, value in weights.items()}


def _read_safetensors(path: str, param_key: str | None) -> dict[str, Tensor]:
    if param_key not in (None, 'params', 'params_ema'):
        raise RequestError(
            f'{path}: a safetensors file holds one set of weights under no key, so there is no {param_key!r} in it. '
            'Leave path: param_key_g out.'
        )
    with _opened(path) as file:
        held = (file.metadata() or {}).get('param_key', param_key)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    if param_key is not None and held != param_key:
        get_root_logger().info(f'{path} holds {held} alone; it is used for {param_key}.')
    return _as_weights(weights, path)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    refuse_what_is_no_file(path)
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f'{path} is not a whole safetensors file ({error}). It is cut short, damaged, or of another form under '
            "this ending: copy it again, or, if it is torch's own form, name it .pth."
        ) from error


def _read(path: str) -> Any:
    refuse_what_is_no_file(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:
        refuse_code(path, error, SAVED_ANEW)
        raise RequestError(
            f'{path} cannot be read as a weights file: it is of another kind, or damaged ({loading_reason(error)}). '
            'Give a file that torch.save wrote of a state dict, or safetensors; if it was copied or downloaded, do so '
            'again.'
        ) from error
    if isinstance(content, dict) and {'optimizers', 'iter'} <= set(content):
        raise RequestError(f'{path} is a training state (path: resume_state), not a file of weights.')
    return content


def _chosen(content: Any, param_key: str, path: str) -> Any:
    if not isinstance(content, dict):
        return content
    if param_key == 'params_ema' and param_key not in content and 'params' in content:
        get_root_logger().info(f'{path} has no params_ema; params is used.')
        param_key = 'params'
    if param_key not in content:
        keys = some_of(map(repr, content), 8)
        raise RequestError(
            f'{path}: no key {param_key!r} in it, only {keys}. Set path: param_key_g to the one that holds the '
            'weights (none if the file is the weights themselves).'
        )
    return content[param_key]


def _as_weights(content: Any, path: str) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise RequestError(f'{path}: what it holds is no table of names and tensors, so no weights of a network.')
    return {name.removeprefix('module.').removeprefix('_orig_mod.'): value for name, value in content.items()}
