"""Reading the toolbox's weights files."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from pdan_plugin.errors import RequestError


def read_weights(path: str, param_key: str | None = 'params') -> dict[str, Tensor]:
    """Reads the network weights out of a toolbox weights file, on the CPU; no code in the file is ever run.

    ``param_key`` 'params_ema' falls back to 'params' where the file has no moving average, as in the toolbox, and
    says so.

    Raises:
        RequestError: no such file, no weights file, or no such key; the message lists the keys there are.
    """
    content = _read(path)
    if param_key is not None:
        content = _chosen(content, param_key, path)
    return _as_weights(content, path)


def read_any_weights(path: str) -> dict[str, Tensor]:
    """Reads the weights to use: the moving average, else ``params``, else a file that is nothing but weights.

    Raises:
        RequestError: as :func:`read_weights`.
    """
    content = _read(path)
    if isinstance(content, dict) and not any(key in content for key in ('params_ema', 'params')):
        return _as_weights(content, path)
    return _as_weights(_chosen(content, 'params_ema', path), path)


def _read(path: str) -> Any:
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise RequestError(f'{path}: no such weights file.') from error
    except pickle.UnpicklingError as error:
        raise RequestError(
            f'{path} is not a file of weights alone: it is damaged, or holds Python objects, which could run code and '
            'are not loaded. Save the state dict of the network instead.'
        ) from error
    except Exception as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise RequestError(f'{path} cannot be read as a weights file ({reason}).') from error
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
        keys = ', '.join(map(repr, list(content)[:8]))
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
