"""Writes the whole numbers of an option file as integers: YAML reads 1e1 and 16.0 as floats.

Python's ``range``, torch's layers and the data loader refuse a float, some of them only in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, Registry

from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.keywords import whole, with_whole_numbers
from pdan_plugin.option_schema.optimization import find_scheduler


def write_whole_numbers(options: dict[str, Any]) -> None:
    """Replaces, in place, every float that is a whole number by an integer, also in lists and sections.

    Two kinds stay: values of optimizers (torch's Adam refuses integers in ``betas``), and keywords of networks, losses,
    metrics and schedulers that their constructors declare as floats, by annotation or default. Call it after the
    plugins were loaded.
    """
    for key, value in options.items():
        if not isinstance(value, Mapping):
            options[key] = whole(value)
        elif str(key).startswith('network_'):
            options[key] = _keywords(ARCH_REGISTRY, value)
        elif key == 'train':
            options[key] = {word: _of_training(str(word), item) for word, item in value.items()}
        else:
            options[key] = whole(value)
            if key == 'val' and isinstance(value.get('metrics'), Mapping):
                options[key]['metrics'] = {
                    name: _keywords(METRIC_REGISTRY, each) for name, each in value['metrics'].items()
                }


def _keywords(registry: Registry, values: Any) -> Any:
    target = find_registered(registry, values.get('type')) if isinstance(values, Mapping) else None
    return whole(values) if target is None else with_whole_numbers(target, values)


def _of_training(word: str, value: Any) -> Any:
    if word.startswith('optim_'):
        return value
    if word == 'scheduler' and isinstance(value, Mapping):
        scheduler = find_scheduler(value.get('type'))
        return whole(value) if scheduler is None else with_whole_numbers(scheduler, value)
    return _keywords(LOSS_REGISTRY, value)
