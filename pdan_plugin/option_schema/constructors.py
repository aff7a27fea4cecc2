"""Checks the keys of an option section against the class or function that gets them as keywords.

All checks use the signature: it gives the known keywords, the required ones, and the kind of each value (from the
annotation, else from the default).
"""

from __future__ import annotations

import datetime
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pdan_plugin.option_schema.keys_read import OWN_PACKAGES
from pdan_plugin.option_schema.passed_on import PassedOn, passed_on
from pdan_plugin.option_schema.spelling import did_you_mean, longer_name, misspelt, nearest

if TYPE_CHECKING:
    from basicsr.utils.registry import Registry


@dataclass(frozen=True)
class Problem:
    """One problem in an option file: the dotted key, and a text with what was found, expected, and what to write.

    ``is_warning``: the run can go on, because the key only has no effect.
    """

    key: str
    text: str
    is_warning: bool = False


def describe(value: Any) -> str:
    """Describes a value in YAML terms, in one line."""
    if value is None:
        return 'nothing (~)'
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return f'the text {value!r}'
    if isinstance(value, Mapping):
        return 'a section'
    text = repr(list(value)) if isinstance(value, (list, tuple)) else repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def number_hint(value: Any) -> str:
    """A hint on how to write a number that was read as text; empty if the value is no text of a number."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ''
    if math.isnan(number):
        return ''
    return f'; write it without quotes: {int(number) if number.is_integer() and abs(number) < 1e15 else number}'


def is_restoration_model(model: Any) -> bool:
    """Whether a class is RestorationModel or based on it, and so reads its options; false for None."""
    return any(each.__name__ == 'RestorationModel' and is_own(each) for each in getattr(model, '__mro__', ()))


def is_own(target: Any) -> bool:
    """Whether a class or function belongs to the toolbox or this package, so that all keys it reads are known."""
    return getattr(target, '__module__', '').split('.')[0] in OWN_PACKAGES


def registered_names(registry: Registry) -> list[str]:
    """The names an option file may use, without the toolbox's internal ``_basicsr`` suffix."""
    return sorted(name.removesuffix('_basicsr') for name, _ in registry)


def find_registered(registry: Registry, name: Any) -> Any | None:
    """The registered object that the toolbox would find, or None. Prints nothing, unlike ``Registry.get``."""
    objects = dict(iter(registry))
    return objects.get(name, objects.get(f'{name}_basicsr')) if isinstance(name, str) else None


def unknown_name(registry: Registry, kind: str, name: Any) -> str:
    """The error text for a name that is not registered, with the closest name and a hint at missing plugins."""
    if not isinstance(name, str):
        return f'found {describe(name)}; expected the name of a registered {kind}'
    names = registered_names(registry)
    close = nearest(name, names) or longer_name(name, names)
    guess = f"; did you mean '{close}'?" if close else ';'
    return (
        f"no {kind} named '{name}' is registered{guess} if it belongs to a plugin, install that plugin or list it "
        'under plugins: (`basicsr plugins` shows all names)'
    )


def check_registered(
    registry: Registry, kind: str, values: Any, key: str, *, provided: Collection[str] = (), extra: Collection[str] = ()
) -> list[Problem]:
    """Checks a section ``{type: NAME, keyword: value, ...}`` against the constructor or function registered as NAME.

    Args:
        registry: The toolbox's registry that must contain NAME.
        kind: The kind of object in messages: arch, loss, metric.
        values: The section as read.
        key: Its dotted key.
        provided: Parameters that the toolbox passes itself; the file must not give them.
        extra: Keys besides ``type`` that the toolbox reads from the section and does not pass to the constructor.
    """
    if not isinstance(values, Mapping):
        return [Problem(key, f'found {describe(values)}; expected a section with type: NAME_OF_THE_{kind.upper()}')]
    if 'type' not in values:
        return [Problem(f'{key}.type', f'missing; expected the name of a registered {kind}')]
    target = find_registered(registry, values['type'])
    if target is None:
        return [Problem(f'{key}.type', unknown_name(registry, kind, values['type']))]
    keywords = {word: value for word, value in values.items() if word != 'type' and word not in extra}
    return check_keywords(target, keywords, key, provided=provided)


def check_keywords(
    target: Callable[..., Any], keywords: Mapping[str, Any], key: str, *, provided: Collection[str] = ()
) -> list[Problem]:
    """Checks keywords against a callable's signature: unknown ones, missing ones, values of the wrong kind.

    ``**kwargs`` of the toolbox's classes and ours is ignored, because they discard it. For other classes with
    ``**kwargs`` any keyword passes that the source may use, see `passed_on`; one that looks like a misspelling of a
    parameter that was not given is a warning if the source may use it, and rejected if it cannot.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a builtin without a signature cannot be checked
        return []
    name = getattr(target, '__name__', str(target))
    named = {
        word: parameter
        for word, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and word not in provided
    }
    swallows = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    problems = []
    for word in keywords:
        if word in named:
            continue
        if word in provided:
            problems.append(Problem(f'{key}.{word}', f'the toolbox passes this to {name} itself; remove the key'))
        elif swallows:
            rest = PassedOn(is_dropped=True) if is_own(target) else passed_on(target)
            candidates = {*named, *rest.known}
            close = misspelt(str(word), [other for other in candidates if other not in keywords or is_own(target)])
            if word in rest.known:
                continue
            if close and rest.is_unsure:
                text = f"{name} names no such keyword, but may pass it on (**kwargs); did you mean '{close}'?"
                problems.append(Problem(f'{key}.{word}', text, is_warning=True))
            elif close:
                problems.append(Problem(f'{key}.{word}', f"{name} has no such keyword; did you mean '{close}'?"))
            elif is_own(target):
                problems.append(Problem(f'{key}.{word}', f'{name} ignores it', is_warning=True))
            elif not rest.is_unsure and not rest.is_dropped:
                hint = did_you_mean(str(word), sorted(candidates))
                problems.append(Problem(f'{key}.{word}', f'{name} has no such keyword{hint}'))
        else:
            problems.append(Problem(f'{key}.{word}', f'{name} has no such keyword{did_you_mean(str(word), named)}'))
    hints = type_hints(target)
    for word, parameter in named.items():
        if word not in keywords:
            if parameter.default is parameter.empty:
                problems.append(Problem(f'{key}.{word}', f'missing; {name} cannot be built without it'))
            continue
        expected = _expected_kind(hints.get(word), parameter.default, keywords[word])
        if expected:
            problems.append(Problem(f'{key}.{word}', wrong_value(keywords[word], expected)))
    return problems


def takes_null(target: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether None may say something to a parameter. Unknown without an annotation, except for a number of the toolbox
    or this package: they have no parameter in which None replaces a number."""
    hint = type_hints(target).get(parameter.name)
    if hint is not None:
        return _fits(hint, None)
    return not (is_own(target) and isinstance(parameter.default, (bool, int, float)))


def wrong_value(value: Any, expected: str) -> str:
    """The error text for a value of the wrong kind, with a hint if a number was written as text."""
    hint = number_hint(value) if 'number' in expected else ''
    if expected == 'text' and isinstance(value, (int, float, datetime.date)):  # also true and false, and a time
        hint = '; YAML reads it as something else: write it in quotes'
    return f'found {describe(value)}; expected {expected}{hint}'


def type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function or constructor; empty if they cannot be resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations may use names imported for type checkers only; then the defaults are used
        return {}


def _expected_kind(hint: Any, default: Any, value: Any) -> str | None:
    """The expected kind in words if ``value`` does not fit the annotation (or the default if there is none)."""
    if hint is not None:
        return None if _fits(hint, value) else _in_words(hint)
    if value is None or default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) or value in (0, 1) else 'true or false'
    if isinstance(default, (int, float)):
        # a whole-number default without annotation (EDSR's res_scale=1) also allows fractions, and lists may give one
        # number per stage
        return 'a number' if isinstance(value, (str, bool, Mapping)) else None
    if isinstance(default, str):
        return 'text' if isinstance(value, (bool, int, float, list, tuple, Mapping)) else None
    if isinstance(default, (list, tuple)):
        return 'a list' if isinstance(value, (str, Mapping)) else None
    return None


def is_number(value: Any) -> bool:
    """Whether it is a YAML number; true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; 5e3 is one."""
    return is_number(value) and float(value).is_integer()


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(argument, value) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return is_number(value)
    if hint is str:
        return isinstance(value, str)
    container = origin or hint
    if not inspect.isclass(container):
        return True
    if issubclass(container, Mapping):
        return isinstance(value, Mapping)
    if container in (list, tuple) or container.__module__ == 'collections.abc':
        return value is not None and not isinstance(value, (str, bool, int, float, Mapping))
    return True


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return ' or '.join(_in_words(argument) for argument in arguments)
    if origin is typing.Literal:
        return 'one of ' + ', '.join(map(str, arguments))
    simple = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'text', type(None): '~'}
    if hint in simple:
        return simple[hint]
    return 'a section' if inspect.isclass(origin or hint) and issubclass(origin or hint, Mapping) else 'a list'
