"""Checks every picture of a data set before a run: that it is one, and that pairs have sizes that match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from basicsr.data.paired_image_dataset import PairedImageDataset

from pdan_plugin.data.training_pictures import picture_size
from pdan_plugin.errors import RequestError, first_of
from pdan_plugin.option_schema.constructors import is_own
from pdan_plugin.preparation.bounded_work import in_order

_THREADS = 8  # they wait for the disk more than for a core
_SIZE = re.compile(r' \((\d+),(\d+)(?:,\d+)?\)')

EXCHANGED = 'dataroot_gt and dataroot_lq seem to be exchanged'

Size = tuple[int, int]
Read = Callable[[], Size | None]  # None: not known
Named = tuple[str, Read]
Pair = tuple[Named | None, Named | None]  # gt and lq


def check_pictures(dataset: Any, values: Mapping[str, Any]) -> dict[Size, str]:
    """Reads the size of every picture of a data set of the toolbox or of this package, from its first bytes.

    Data sets of other plugins are skipped: their files need not be pictures. A data set with a method
    ``check_frames`` is asked to check itself, and may return what this function does.

    Returns:
        (height, width) of the ground truth, as far as it is known -> the name of the first picture that has it.

    Args:
        dataset: The built data set.
        values: Its completed options.

    Raises:
        RequestError: Pictures cannot be read, or sizes do not match; lists them.
    """
    if hasattr(dataset, 'check_frames'):
        return dict(dataset.check_frames() or {})
    if not is_own(type(dataset)):
        return {}
    crops = isinstance(dataset, PairedImageDataset) and values['phase'] != 'train'
    problems: list[str] = []
    found: dict[Size, str] = {}
    for (gt, _), seen in in_order(lambda pair: _seen(pair, values, crops=crops), _pairs(dataset), _THREADS):
        size, problem = (None, str(seen)) if isinstance(seen, RequestError) else seen
        if problem is not None:
            problems.append(problem)
        elif size is not None and gt is not None:
            found.setdefault(size, gt[0])
    if problems:
        count = 'one picture' if len(problems) == 1 else f'{len(problems)} pictures'
        lines = '\n'.join(first_of(problems))
        raise RequestError(f'{count} cannot be used; replace or remove them:\n{lines}')
    return found


def _seen(pair: Pair, values: Mapping[str, Any], *, crops: bool) -> tuple[Size | None, str | None]:
    """The size of gt, if it is known, and what is wrong with a pair, named, if anything is.

    Args:
        crops: Whether the data set crops gt to what lq shows of it.

    Raises:
        RequestError: One of the two cannot be read.
    """
    gt, lq = pair
    scale = values.get('scale')
    gt_size, lq_size = (None if each is None else each[1]() for each in pair)
    if gt is None or lq is None or gt_size is None or lq_size is None:
        return gt_size, None
    due = (lq_size[0] * scale, lq_size[1] * scale) if isinstance(scale, int) else gt_size
    sizes = f'{lq[0]}: {size_in_words(lq_size)}, but {gt[0]}: {size_in_words(gt_size)}'
    found = f'{sizes}; expected {size_in_words(due)} at scale: {scale}'
    if are_exchanged(gt_size, lq_size, scale):
        return gt_size, f'{found}; {EXCHANGED}'
    least = (values.get('gt_size') or 0) if values['phase'] == 'train' else 0
    if min(gt_size) < least:
        fitting = _fitting(min(gt_size), scale)
        return gt_size, f'{gt[0]}: {size_in_words(gt_size)}, smaller than gt_size: {least}{fitting}'
    if gt_size == due or (crops and gt_size[0] >= due[0] and gt_size[1] >= due[1]):
        return due, None
    return gt_size, found


def are_exchanged(gt: Sequence[int], lq: Sequence[int], scale: Any) -> bool:
    """Whether the picture of shape (..., h, w) in ``lq`` is ``scale`` times as large as the one in ``gt``."""
    return isinstance(scale, int) and scale > 1 and tuple(lq[-2:]) == (gt[-2] * scale, gt[-1] * scale)


def _fitting(side: int, scale: Any) -> str:
    """The end of a message: the largest ``gt_size`` for a picture; empty if there is none."""
    fitting = side - side % scale if isinstance(scale, int) and scale > 0 else 0
    return f'; gt_size: {fitting} would fit' if fitting else ''


def _pairs(dataset: Any) -> Iterator[Pair]:
    """(gt, lq) of the pictures that a data set lists: their names and how to read their sizes."""
    if isinstance(getattr(dataset, 'paths', None), list):
        backend = getattr(dataset, 'io_backend_opt', None) or {}
        yield from _listed(dataset.paths, backend.get('client_keys', ()), backend.get('db_paths', ()))
    elif hasattr(dataset, 'imgs_lq'):  # a test on clips
        for clip, names in dataset.imgs_lq.items():
            yield from zip(map(_file, dataset.imgs_gt.get(clip, ())), map(_file, names), strict=False)
    elif type(dataset).__name__ in ('REDSDataset', 'REDSRecurrentDataset') and not dataset.is_lmdb:
        for key in dataset.keys:
            yield _file(Path(dataset.gt_root) / f'{key}.png'), _file(Path(dataset.lq_root) / f'{key}.png')


def _listed(paths: list[Any], keys: Any, stores: Any) -> Iterator[Pair]:
    """Those of a list of paths, or of pairs of paths, which are keys if the pictures are in stores."""
    if stores and isinstance(keys, list) and isinstance(stores, list):
        sizes = {key: _sizes_in_store(store) for key, store in zip(keys, stores, strict=True)}
        read = {key: lambda name, key=key: (name, lambda: sizes[key].get(name)) for key in keys}
    else:
        read = dict.fromkeys(('gt', 'lq'), _file)
    for path in paths:
        if isinstance(path, Mapping):
            yield read['gt'](path['gt_path']), read['lq'](path['lq_path'])
        elif not stores:
            yield None, _file(path)


def _file(path: Any) -> Named:
    return str(path), lambda: picture_size(path)


def _sizes_in_store(store: str) -> dict[str, Size]:
    """The sizes that a store's list has of its pictures; lines without one are left out."""
    lines = (Path(store) / 'meta_info.txt').read_text(encoding='utf-8').splitlines()
    found = ((line.split('.')[0], _SIZE.search(line)) for line in lines)
    return {key: (int(size[1]), int(size[2])) for key, size in found if size}


def size_in_words(shape: Sequence[int]) -> str:
    """The text 'WIDTHxHEIGHT' for a picture of shape (..., h, w)."""
    return f'{shape[-1]}x{shape[-2]}'
