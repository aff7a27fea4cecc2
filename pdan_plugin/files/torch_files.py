"""Files of torch.save: written whole or not at all, with clear errors if torch's safe reader rejects one."""

from __future__ import annotations

import pickle
import re
from os import path as osp
from typing import Any

import torch

from pdan_plugin.errors import RequestError, first_of
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs

# in torch's errors: module and name of an object that does not belong in a state dict
_NAMED_OBJECT = re.compile(r'(?:GLOBAL|global|class|function) ([A-Za-z_]\w*(?:\.\w+)+)')

SAVED_ANEW = 'Ask its author to save only a state dict: torch.save(network.state_dict(), FILE), or safetensors.'


def save_atomically(content: Any, path: str) -> None:
    """torch.save that writes the whole file or leaves the old one unchanged.

    The content is synced to disk, so that it survives a power cut. Unfinished files of killed processes in the folder
    are removed first.

    Raises:
        OSError: The content could not be written; the old file is unchanged.
    """
    try:
        remove_left_overs(osp.dirname(osp.abspath(path)))
        with opened_whole(path, durable=True) as file:
            torch.save(content, file)
    except Exception as error:
        kept = 'the existing file is unchanged' if osp.exists(path) else 'no partial file is left'
        raise OSError(
            f'cannot save {path}: {_reason(error)}; {kept}. Is the disk full, or the folder not writable?'
        ) from error


def _reason(error: BaseException) -> str:
    """The system's reason. After a failed write torch raises the later error of closing its archive."""
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
            f'{path} is not loaded: it holds Python objects ({named[1]}), which could run code when loaded. {way_out}'
        ) from error


def reasons_in_short(error: Exception) -> str:
    """The first lines of torch's error about weights that do not fit: a deep network has hundreds of them."""
    return '\n'.join(first_of(str(error).splitlines(), 8))


def loading_reason(error: Exception) -> str:
    """The line of torch's error with the reason: the first line, or that of its safe reader."""
    text = str(error)
    _, found, reason = text.partition('WeightsUnpickler error: ')
    return (reason if found else text).strip().partition('\n')[0] or type(error).__name__
