"""Weights files: reads the toolbox's format and safetensors, writes safetensors; never runs code from a file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.other_contents import HEAD, as_text, what_else
from pdan_plugin.files.torch_files import SAVED_ANEW, load_weights_only, loading_reason, refuse_code
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.weights.run_log import log_line
from pdan_plugin.weights.state_search import choose_part, find_weights, keys_in_words

_HEADER_LENGTH = 8  # bytes at the start of a safetensors file: the length of its JSON header, little-endian
_PICTURES = (b'\x89PNG', b'\xff\xd8\xff', b'GIF8', b'RIFF', b'II*\0', b'MM\0*')
_TORCH = (b'PK\3\4', b'\x80\2')  # an archive, or the older format
_OTHER_MODELS = {'.onnx': 'an ONNX model', '.engine': 'a model of TensorRT', '.tflite': 'a model of TensorFlow Lite'}
_AGAIN = 'download the file again'
_OWN_KEYS = ('params', 'params_ema')  # of the toolbox's files
FLOAT16_MAX = torch.finfo(torch.float16).max


def read_weights(
    path: str, param_key: str | None = 'params', own: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Reads the network weights from a weights file, on the CPU; never runs code from the file.

    ``param_key`` is a key of the file, or one of those that :func:`~.state_search.choose_part` accepts. As in the
    toolbox, 'params' is used if 'params_ema' is missing; the log reports it. In a file with neither of them, weights
    are found by looking (:func:`~.state_search.find_weights`), for both keys and for None.

    A safetensors file holds one set of weights without a key, which is read for 'params', 'params_ema' and None. The
    log reports if its metadata names the other key.

    Args:
        own: The state of the network they are for, by whose names they are found.

    Raises:
        RequestError: there is no such file, it is not a weights file, or it lacks the key; the message lists its keys.
    """
    if is_safetensors(path):
        return _read_safetensors(path, param_key, own)
    content = _read(path)
    if param_key is not None:
        content = _chosen(content, param_key, path)
    return find_weights(content, path, own)


def read_any_weights(
    path: str, own: Mapping[str, Tensor] | None = None, param_key: str | None = None
) -> tuple[dict[str, Tensor], str | None]:
    """Reads the weights for inference: those under ``param_key``, else ``params_ema``, else ``params``, else those that
    are found by looking.

    Returns:
        The weights, and their key: ``param_key``, 'params_ema', 'params', or None if the file does not name it.

    Raises:
        RequestError: as :func:`read_weights`.
    """
    if param_key is not None:
        return read_weights(path, param_key, own), param_key
    if is_safetensors(path):
        return _read_safetensors(path, None, own), read_metadata(path).get('param_key')
    content = _read(path)
    for key in ('params_ema', 'params'):
        if isinstance(content, dict) and key in content:
            return find_weights(_chosen(content, 'params_ema', path), path, own), key
    return find_weights(content, path, own), None


def read_content(path: str, param_key: str | None = None) -> Any:
    """All that a weights file holds, or the part under a key, on the CPU: a dict of tensors, with or without sections.

    Raises:
        RequestError: as :func:`read_weights`.
    """
    if is_safetensors(path):
        with _opened(path) as file:
            content: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        is_all = param_key in (None, *_OWN_KEYS) and not any(name.startswith(f'{param_key}.') for name in content)
        return content if is_all else choose_part(content, str(param_key), path)
    content = _read(path)
    return content if param_key is None else _chosen(content, param_key, path)


def is_safetensors(path: str | Path) -> bool:
    """Whether a file should be read as safetensors: it starts like a safetensors file, or has that ending and does not
    start like a file of torch."""
    is_named_so = str(path).lower().endswith('.safetensors')
    if not os.path.isfile(path):
        return is_named_so
    try:
        with open(path, 'rb') as file:
            start = file.read(_HEADER_LENGTH + 1)
            size = os.fstat(file.fileno()).st_size
    except OSError:  # reported when the file is read
        return is_named_so
    length = int.from_bytes(start[:_HEADER_LENGTH], 'little')
    is_one = start[_HEADER_LENGTH:] == b'{' and length <= size - _HEADER_LENGTH
    return is_one or (is_named_so and not start.startswith(_TORCH))


def refuse_what_is_no_file(path: str | Path) -> None:
    """Raises a RequestError for a missing path, a folder, or a pipe or device, on which reading may block."""
    if os.path.isdir(path):
        raise RequestError(f'{path} is a folder; give the weights file in it.')
    if not os.path.exists(path):
        raise RequestError(f'{path}: no such weights file.')
    if not os.path.isfile(path):
        raise RequestError(f'{path} is a pipe or a device; give a weights file.')


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata texts of a safetensors file; empty if there are none.

    Raises:
        RequestError: there is no such file, or it is not a complete safetensors file.
    """
    with _opened(str(path)) as file:
        return file.metadata() or {}


def write_safetensors(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes weights and metadata texts; the file is replaced as a whole or not at all.

    Raises:
        RequestError: the file cannot be written.
    """
    # contiguous copies: the format has no tensors that share memory or are channels-last
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights.items()}
    with refusing_unwritable(path):
        write_whole(path, safetensors_bytes(plain, metadata={'format': 'pt', **metadata}), durable=True)


def in_float16(weights: Mapping[str, Tensor], source: str | Path) -> dict[str, Tensor]:
    """The weights with every float32 or float64 tensor in float16.

    Raises:
        RequestError: a value is beyond float16's range; the message names ``source`` and the tensor.
    """
    for name, value in weights.items():
        if value.is_floating_point() and value.numel() and not value.abs().max() <= FLOAT16_MAX:
            raise RequestError(
                f'{source}: {name} holds {value.abs().max():.3g}, beyond float16 (at most {FLOAT16_MAX:.0f}). '
                'Leave --fp16 out.'
            )
    wide = (torch.float32, torch.float64)
    return {name: value.half() if value.dtype in wide else value for name, value in weights.items()}


def _read_safetensors(path: str, param_key: str | None, own: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    with _opened(path) as file:
        held = (file.metadata() or {}).get('param_key', param_key)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if param_key not in (None, *_OWN_KEYS):
        if not any(name.startswith(f'{param_key}.') for name in weights):
            raise RequestError(
                f'{path}: a safetensors file holds one set of weights without a key; {param_key!r} cannot be read, and '
                f'no name begins with it, only with {keys_in_words(weights)}. Leave path: param_key_g out.'
            )
        weights = choose_part(weights, param_key, path)
    elif param_key is not None and held != param_key:
        log_line(f'{path} holds only {held}, which is used for {param_key}.')
    return find_weights(weights, path, own)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    refuse_what_is_no_file(path)
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, RequestError):
            raise
        if (what := _what_else(path)) is not None:
            raise RequestError(f'{path} cannot be read as a weights file: it is {what}.') from error
        raise RequestError(
            f'{path} is not a complete safetensors file ({error}). It is truncated, damaged or of another format: copy '
            "it again, or rename it to .pth if it is of torch's format."
        ) from error


def _read(path: str) -> Any:
    refuse_what_is_no_file(path)
    if _is_torchscript(path):
        raise RequestError(f'{path} holds a program (TorchScript), not only weights, and is not loaded. {SAVED_ANEW}')
    try:
        content = load_weights_only(path)
    except Exception as error:
        refuse_code(path, error, SAVED_ANEW)
        if (what := _what_else(path)) is not None:
            raise RequestError(f'{path} cannot be read as a weights file: it is {what}.') from error
        raise RequestError(
            f'{path} cannot be read as a weights file: it has another format, or is damaged ({loading_reason(error)}). '
            'Give a state dict saved with torch.save, or safetensors. If the file was copied or downloaded, do that '
            'again.'
        ) from error
    if isinstance(content, dict) and {'optimizers', 'iter'} <= set(content):
        raise RequestError(f'{path} is a training state (path: resume_state), not a file of weights.')
    if isinstance(content, dict):  # an average that was not kept may be null
        return {key: value for key, value in content.items() if value is not None}
    return content


def _is_torchscript(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith('/constants.pkl') for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _what_else(path: str) -> str | None:
    """What a file is that holds no weights, and what to do; None if that is not known."""
    with open(path, 'rb') as file:
        head = file.read(HEAD)
    if not head:
        return 'empty (0 bytes)'
    if not head.strip(b'\0'):
        return f'zero bytes at its beginning, as of a download that was not finished: {_AGAIN}'
    if head.startswith(_PICTURES):
        return 'a picture'
    if (model := _OTHER_MODELS.get(os.path.splitext(path)[1].lower())) is not None:
        return f'{model}, which has no names of parameters: give the weights that it was made from'
    if head.startswith(b'PK'):  # torch's own files are such archives
        return _what_archive(path)
    text = as_text(head)
    found = None if text is not None and text.startswith('<?xml') else what_else(head)
    if found is None and text is not None:
        return f'a text ({text!r}), such as an error in place of a download: {_AGAIN}'
    return found


def _what_archive(path: str) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return f'an archive (as torch writes, too) without its end, as of a download that was not finished: {_AGAIN}'
    if any(name.endswith('/data.pkl') for name in names):
        return None
    if any(name.endswith('archive_format') for name in names):
        return f'a program (torch.export), not only weights. {SAVED_ANEW.removesuffix(".")}'
    if any(name.endswith('.npy') for name in names):
        return 'a NumPy archive; save its arrays as safetensors'
    return 'a zip archive; unpack it'


def _chosen(content: Any, param_key: str, path: str) -> Any:
    """The part under a key; all of a file without the toolbox's keys, if one of these is asked for."""
    if param_key not in _OWN_KEYS:
        return choose_part(content, param_key, path)
    if not isinstance(content, dict) or not any(key in content for key in _OWN_KEYS):
        return content
    if param_key == 'params_ema' and param_key not in content:
        log_line(f'{path} has no params_ema; using params.')
        param_key = 'params'
    return choose_part(content, param_key, path)
