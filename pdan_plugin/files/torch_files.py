"""Files of torch.save: written whole or not at all, with clear errors if torch's safe reader rejects one."""

from __future__ import annotations

import pickle
import re
from os import path as osp
from typing import Any

import torch

from pdan_plugin.errors import RequestError, first_of
from pdan_plugin.files.whole_files import opened_whole, remove_left_overs

# in torch's errors: module and name of an object that does not belong in a state dict; those of builtins have no module
_NAMED_OBJECT = re.compile(r'GLOBAL ([A-Za-z_][\w.]*)|(?:global|class|function) ([A-Za-z_]\w*(?:\.\w+)+)')
# whose objects trainers keep beside the weights: arguments, scores, times, paths, and their parts
_KEPT_BESIDE = (
    'numpy', 'argparse', 'types', 'typing', 'datetime', 'pathlib', 'omegaconf', 'pytorch_lightning', 'lightning',
)  # fmt: skip
_BUILTINS = ('dict', 'list', 'int', 'float', 'str', 'bool', 'tuple', 'set', 'slice', 'range')

SAVED_ANEW = (
    'Ask its author to save only a state dict, torch.save(network.state_dict(), FILE), or safetensors; or do that '
    'yourself with the program that wrote it, if you trust the file.'
)


class LeftOut:
    """Stands for an object of a file that is neither a tensor nor a plain value: it holds nothing and does nothing."""

    def __new__(cls, *_: Any) -> LeftOut:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        pass


def load_weights_only(path: str) -> Any:
    """What torch's safe reader finds in a file, on the CPU.

    Objects that trainers keep beside the weights, such as arguments and NumPy's numbers, become :class:`LeftOut`; a
    ``defaultdict`` becomes a dict. Nothing that the file names is imported or called: the reader gets the stand-in.

    Raises:
        UnpicklingError: The file holds other objects.
        Exception: Of torch, for a file that is not its own.
    """
    stand_ins: dict[str, Any] = {}
    while True:
        try:
            allowed = torch.serialization.safe_globals([(stand_in, name) for name, stand_in in stand_ins.items()])
            # a file, because of a path torch looks at the ending
            with open(path, 'rb') as file, allowed:
                return torch.load(file, map_location='cpu', weights_only=True)
        except pickle.UnpicklingError as error:
            name = _object_in(error)
            if name is None or name in stand_ins:
                raise
            if name == 'collections.defaultdict':
                stand_ins[name] = _plain_dict
            elif name.partition('.')[0] in _KEPT_BESIDE or name in (f'builtins.{each}' for each in _BUILTINS):
                stand_ins[name] = LeftOut
            else:
                raise


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _object_in(error: Exception) -> str | None:
    """Module and name of the object for which torch's safe reader rejected a file."""
    found = _NAMED_OBJECT.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if found is None:
        return None
    name = found[1] or found[2]
    return name if '.' in name else f'builtins.{name}'


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
    named = _object_in(error)
    if named is not None:
        raise RequestError(
            f'{path} is not loaded: it holds Python objects ({named}), which could run code when loaded. {way_out}'
        ) from error


def reasons_in_short(error: Exception) -> str:
    """The first lines of torch's error about weights that do not fit: a deep network has hundreds of them."""
    return '\n'.join(first_of(str(error).splitlines(), 8))


def loading_reason(error: Exception) -> str:
    """The line of torch's error with the reason: the first line, or that of its safe reader; without the advice to read
    the file with ``weights_only=False``."""
    text = str(error)
    _, found, reason = text.partition('WeightsUnpickler error: ')
    line = (reason if found else text).strip().partition('\n')[0]
    return '. '.join(each for each in line.split('. ') if 'weights_only' not in each) or type(error).__name__
