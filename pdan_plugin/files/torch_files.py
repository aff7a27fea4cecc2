"""Files of torch.save: written whole or not at all, and why torch's safe reader rejects one."""

from __future__ import annotations

import pickle
import re
from os import path as osp
from typing import Any

import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs

# how torch names an object that does not belong in a state dict: its module and name
_NAMED_OBJECT = re.compile(r'(?:GLOBAL|global|class|function) ([A-Za-z_]\w*(?:\.\w+)+)')

SAVED_ANEW = (
    'Ask who made it to save it anew as what it is, tensors by name: torch.save(network.state_dict(), FILE), or as '
    'safetensors.'
)


def save_atomically(content: Any, path: str) -> None:
    """torch.save, after which the path holds either the whole new file or what it held before.

    The content is flushed to the disk, so that it outlasts a power cut. Unfinished files that killed processes left in
    the folder are removed first.

    Raises:
        OSError: The content could not be written; what was there before still is.
    """
    try:
        remove_left_overs(osp.dirname(osp.abspath(path)))
        with opened_whole(path, durable=True) as file:
            torch.save(content, file)
    except Exception as error:
        kept = 'the file of that name from before is untouched' if osp.exists(path) else 'no file of that name is left'
        raise OSError(
            f'cannot save {path}: {_reason(error)}; {kept}. Is the disk full, or the folder not writable?'
        ) from error


def _reason(error: BaseException) -> str:
    """The system's reason: after a failed write torch also fails to close its archive, and raises that error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.strerror or str(cause)
        cause = cause.__context__
    return str(error)


def refuse_code(path: str, error: Exception, way_out: str) -> None:
    """Raises a RequestError if torch's safe reader rejected ``path`` for a Python object, such as posix.system."""
    named = _NAMED_OBJECT.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if named:
        raise RequestError(
            f'{path} carries code: it holds Python objects ({named[1]}), which loading could run, and is not loaded. '
            f'{way_out}'
        ) from error


def loading_reason(error: Exception) -> str:
    """The line of torch's error that holds the reason: the first, or the one of its safe reader."""
    text = str(error)
    _, found, reason = text.partition('WeightsUnpickler error: ')
    return (reason if found else text).strip().partition('\n')[0] or type(error).__name__
