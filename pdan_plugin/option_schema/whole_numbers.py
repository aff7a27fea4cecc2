"""Writes the whole numbers of an option file as integers: YAML reads 1e1 and 16.0 as floats.

Python's ``range``, torch's layers and the data loader refuse a float, some of them only in the middle of a run.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, Registry

from pdan_plugin.option_schema.constructors import find_registered, type_hints
from pdan_plugin.option_schema.optimization import find_scheduler

_LARGEST = 2**53  # beyond it a float does not hold every whole number


def write_whole_numbers(options: dict[str, Any]) -> None:
    """Replaces, in place, every float that is a whole number by an integer, also in lists and sections.

    Two kinds stay: values of optimizers (torch's Adam refuses integers in ``betas``), and keywords of networks, losses,
    metrics and schedulers that their constructors declare as floats, by annotation or default. Call it after the
    plugins were loaded.
    """
    for key, value in options.items():
        if not isinstance(value, Mapping):
            options[key] = _whole(value)
        elif str(key).startswith('network_'):
            options[key] = _keywords(ARCH_REGISTRY, value)
        elif key == 'train':
            options[key] = {word: _of_training(str(word), item) for word, item in value.items()}
        else:
            options[key] = _whole(value)
            if key == 'val' and isinstance(value.get('metrics'), Mapping):
                options[key]['metrics'] = {
                    name: _keywords(METRIC_REGISTRY, each) for name, each in value['metrics'].items()
                }


def with_whole_numbers(target: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a class or function, with integers for whole numbers except where it declares a float.

    A keyword that only ``**kwargs`` takes stays as it is.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a builtin without a signature
        return dict(keywords)
    hints = type_hints(target)

    def takes_whole_numbers(word: str) -> bool:
        if word not in parameters:
            return False
        kinds = _kinds(hints[word]) if word in hints else set()
        if kinds & {int, float}:
            return int in kinds
        default = parameters[word].default
        defaults = default if isinstance(default, (list, tuple)) else [default]
        return not any(isinstance(each, float) for each in defaults)

    return {word: _whole(value) if takes_whole_numbers(word) else value for word, value in keywords.items()}


def _keywords(registry: Registry, values: Any) -> Any:
    target = find_registered(registry, values.get('type')) if isinstance(values, Mapping) else None
    return _whole(values) if target is None else with_whole_numbers(target, values)


def _of_training(word: str, value: Any) -> Any:
    if word.startswith('optim_'):
        return value
    if word == 'scheduler' and isinstance(value, Mapping):
        scheduler = find_scheduler(value.get('type'))
        return _whole(value) if scheduler is None else with_whole_numbers(scheduler, value)
    return _keywords(LOSS_REGISTRY, value)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _kinds(hint: Any) -> set[Any]:
    """The number types that an annotation names: that of ``list[float] | None`` is float."""
    return {hint} & {int, float} if hint in (int, float) else set().union(*map(_kinds, typing.get_args(hint)))
