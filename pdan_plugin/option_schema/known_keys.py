"""The keys of each section that are read: those of sections.py, and those that the source of a class reads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.keys_read import keys_read

# Keys that are read with any model, in sections that the model also reads.
_READ_FOR_ANY_MODEL = {
    sections.Train: {'total_iter', 'warmup_iter'},
    sections.Val: {'val_freq', 'save_img', 'pbar', 'suffix', 'metrics'},
    sections.TrainVal: {'val_freq', 'save_img', 'pbar', 'suffix', 'metrics'},
}
LOADER_KEYS = {
    'name',
    'type',
    'io_backend',
    'phase',
    'scale',
    'pin_memory',
    'persistent_workers',
    'prefetch_mode',
    'num_prefetch_queue',
    'dataset_enlarge_ratio',
    'num_worker_per_gpu',
    'batch_size_per_gpu',
    'use_shuffle',
}
# The toolbox sets these itself and would overwrite the file's values.
SET_BY_TOOLBOX = {'dist', 'rank', 'world_size', 'is_train', 'auto_resume', 'root_path'}
FOLDERS_SET_BY_TOOLBOX = {'models', 'training_states', 'visualization', 'log', 'experiments_root', 'results_root'}


def keys_of_section(schema: type[sections.Options], key: str, reader: Any) -> set[str]:
    """The keys of a section (``''`` is the top level) that are read, if ``reader`` is the model that also reads it."""
    known = set(schema.model_fields)
    if reader is not None:
        known = set(_READ_FOR_ANY_MODEL.get(schema, known))
        known |= keys_read(reader).read.get(key, set()) - SET_BY_TOOLBOX
    return known


def keys_of_paths(model: Any) -> set[str]:
    """The keys of ``path`` that are read with a model, beside those of its networks."""
    read = keys_read(model).read.get('path', set()) - FOLDERS_SET_BY_TOOLBOX if model is not None else set()
    return read | set(sections.Paths.model_fields)


def keys_of_data_set(owner: Any) -> set[str]:
    """The keys of a data set that are read. A class may declare its own in ``option_keys``."""
    declared = getattr(owner, 'option_keys', None)
    return LOADER_KEYS | set(keys_read(owner).read.get('', ()) if declared is None else declared)


def keys_of_source(known: Collection[str]) -> set[str]:
    """The keys of an entry of ``sources``, for a data set whose own keys are known."""
    return {word for word in known if word.startswith('dataroot_')} | {'weight', 'io_backend'}


def due_in_data_set(owner: Any, *, is_training: bool) -> set[str]:
    """The keys that a data set of the toolbox or of this package cannot be built without."""
    keys = keys_read(owner)
    due = set(keys.at_build.get('', ()))
    if is_training:
        due |= keys.demanded.get('', set()) & {'gt_size', 'use_hflip', 'use_rot'}
    return due - {'phase', 'scale', 'name', 'type'}
