"""The keywords of an option section, as the class or function that gets them takes them. Needs no toolbox."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pdan_plugin.option_schema.constructors import is_own, takes_null, type_hints

_LARGEST = 2**53  # beyond it a float does not hold every whole number


def leave_unset_out_for(target: Callable[..., Any], values: dict[str, Any]) -> None:
    """Removes in place the null keywords to which a null says nothing: the class or function uses its default."""
    parameters = inspect.signature(target).parameters
    swallows = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    kept = {word for word, parameter in parameters.items() if takes_null(target, parameter)}
    remove_nulls(values, lambda word: word not in kept and (word in parameters or not swallows or is_own(target)))


def remove_nulls(values: dict[str, Any], is_unset: Callable[[str], bool]) -> None:
    """Removes in place the keys with a null for which ``is_unset`` is true."""
    for word in [word for word, value in values.items() if value is None and is_unset(str(word))]:
        del values[word]


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

    return {word: whole(value) if takes_whole_numbers(word) else value for word, value in keywords.items()}


def whole(value: Any) -> Any:
    """The value with integers for floats that are whole numbers, also in lists and sections."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST:
        return int(value)
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def _kinds(hint: Any) -> set[Any]:
    """The number types that an annotation names: that of ``list[float] | None`` is float."""
    return {hint} & {int, float} if hint in (int, float) else set().union(*map(_kinds, typing.get_args(hint)))
