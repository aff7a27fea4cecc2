"""Null means "not set" in an option file: the reader uses its default, as without the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.constructors import find_registered, is_own
from pdan_plugin.option_schema.keys_read import keys_read
from pdan_plugin.option_schema.keywords import leave_unset_out_for, remove_nulls
from pdan_plugin.option_schema.optimization import SCHEDULERS, torch_optimizers
from pdan_plugin.option_schema.validation import check_values


def leave_unset_out(opt: dict[str, Any]) -> None:
    """Removes in place the null keys whose reader has a default and would take the null for a value.

    A null stays where it says something: for a key that its reader demands (``opt['dataroot_flow']``), for a keyword
    of a constructor that takes None, and for ``path: param_key_g: ~``, the file without keys.
    """
    model = find_registered(MODEL_REGISTRY, opt.get('model_type'))
    _clean(opt, sections.Top, model, '')
    for key, schema in (
        ('train', sections.Train),
        ('val', sections.Val),
        ('logger', sections.Logger),
        ('dist_params', sections.Distributed),
    ):
        _clean(opt.get(key), schema, model, key)
    paths = opt.get('path')
    if isinstance(paths, dict):
        remove_nulls(paths, lambda word: word.startswith('strict_load_'))
    remove_nulls(opt, lambda word: word.startswith('network_'))
    for key in [key for key in opt if str(key).startswith('network_')]:
        leave_unset_keywords_out(opt[key], ARCH_REGISTRY)
    datasets = opt.get('datasets')
    if isinstance(datasets, dict):
        remove_nulls(datasets, lambda _: True)
        for values in datasets.values():
            if isinstance(values, dict):
                _clean(values, sections.DataSet, find_registered(DATASET_REGISTRY, values.get('type')), '')
    train = opt.get('train')
    for key, values in train.items() if isinstance(train, dict) else ():
        if str(key).endswith('_opt'):
            leave_unset_keywords_out(values, LOSS_REGISTRY)
        elif key == 'scheduler' or str(key).startswith('optim_'):
            leave_unset_keywords_out(values, SCHEDULERS if key == 'scheduler' else torch_optimizers())
    metrics = opt['val'].get('metrics') if isinstance(opt.get('val'), dict) else None
    if isinstance(metrics, dict):
        remove_nulls(metrics, lambda _: True)
        for values in metrics.values():
            leave_unset_keywords_out(values, METRIC_REGISTRY)


def leave_unset_keywords_out(values: Any, known: Registry | Mapping[str, Any]) -> None:
    """Removes in place the null keywords of a section ``{type: NAME, ...}`` to which a null says nothing.

    Args:
        values: The section.
        known: What a NAME stands for.
    """
    name = values.get('type') if isinstance(values, dict) else None
    target = find_registered(known, name) if isinstance(known, Registry) else known.get(str(name))
    if target is not None:
        leave_unset_out_for(target, values)


def _clean(values: Any, schema: type[sections.Options], reader: Any, key: str) -> None:
    if not isinstance(values, dict):
        return
    nulls = {word: None for word, value in values.items() if value is None}
    wrong = {problem.key for problem in check_values(schema, nulls, '', due=False)} if nulls else set()
    if reader is not None:
        keys = keys_read(reader)
        wrong |= keys.read.get(key, set()) - keys.demanded.get(key, set())
    # the toolbox's models demand keys of `train` that take no null
    remove_nulls(values, lambda word: word in wrong or (key == 'train' and is_own(reader)))
