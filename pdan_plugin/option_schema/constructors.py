"""Do the words of an option section fit the class or function they are handed to?

The signature is the one source: which keywords there are, which must be given, and what kind of value each takes (from
its annotation, else from its default).
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from basicsr.utils.registry import Registry

from pdan_plugin.option_schema.spelling import did_you_mean, nearest

OWN_PACKAGES = ('basicsr', 'pdan_plugin')


@dataclass(frozen=True)
class Problem:
    """One thing wrong in an option file: its dotted key, and what was found, what was expected and what to write."""

    key: str
    text: str


def describe(value: Any) -> str:
    """A found value in the words of YAML, short enough for one line."""
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
    """How to write a number that arrived as text, or an empty string when the text is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return ''
    return f'; write it without quotes: {int(number) if number.is_integer() and abs(number) < 1e15 else number}'


def is_own(target: Any) -> bool:
    """Whether a class or function is the toolbox's or ours, so that every word it reads is known."""
    return getattr(target, '__module__', '').split('.')[0] in OWN_PACKAGES


def registered_names(registry: Registry) -> list[str]:
    """The names an option file may use, without the toolbox's internal ``_basicsr`` suffix."""
    return sorted(name.removesuffix('_basicsr') for name, _ in registry)


def find_registered(registry: Registry, name: Any) -> Any | None:
    """The registered object as the toolbox would find it, or None. Prints nothing, unlike ``Registry.get``."""
    objects = dict(iter(registry))
    return objects.get(name, objects.get(f'{name}_basicsr')) if isinstance(name, str) else None


def unknown_name(registry: Registry, kind: str, name: Any) -> str:
    """The text about a name that is not registered: the nearest one, and that a plugin may be missing."""
    if not isinstance(name, str):
        return f'found {describe(name)}; expected the name of a registered {kind}'
    close = nearest(name, registered_names(registry))
    guess = f"; did you mean '{close}'?" if close else ';'
    return (
        f"no {kind} named '{name}' is registered{guess} if it comes from a plugin, install that plugin or list it "
        'under plugins: (`basicsr plugins` shows all names)'
    )


def check_registered(
    registry: Registry, kind: str, values: Any, key: str, *, provided: Collection[str] = (), extra: Collection[str] = ()
) -> list[Problem]:
    """Check a section ``{type: NAME, keyword: value, ...}`` against the constructor or function registered as NAME.

    Args:
        registry: The toolbox's registry that NAME must be in.
        kind: What it is, in the user's word: arch, loss, metric.
        values: The section as read.
        key: Its dotted key.
        provided: Parameters the toolbox fills in itself, not to be given in the file.
        extra: Keys the toolbox reads from the section beside ``type``, unknown to the constructor.
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
    """Check keywords against a callable's signature: unknown ones, missing ones, values of the wrong kind.

    A ``**kwargs`` that swallows unknown words is not believed for the toolbox's own classes and ours, which drop what
    they swallow; for others any word passes unless it is a misspelling of a parameter that was not given.
    """
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):  # a builtin without a signature says nothing we could hold the words against
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
            problems.append(Problem(f'{key}.{word}', f'{name} is given this by the toolbox; take it out'))
        elif swallows and not is_own(target):
            close = nearest(str(word), [other for other in named if other not in keywords], cutoff=0.85)
            if close:
                problems.append(Problem(f'{key}.{word}', f"{name} has no such keyword; did you mean '{close}'?"))
        else:
            problems.append(Problem(f'{key}.{word}', f'{name} takes no such keyword{did_you_mean(str(word), named)}'))
    hints = _type_hints(target)
    for word, parameter in named.items():
        if word not in keywords:
            if parameter.default is parameter.empty:
                problems.append(Problem(f'{key}.{word}', f'missing; {name} cannot be built without it'))
            continue
        expected = _expected_kind(hints.get(word), parameter.default, keywords[word])
        if expected:
            problems.append(Problem(f'{key}.{word}', wrong_value(keywords[word], expected)))
    return problems


def wrong_value(value: Any, expected: str) -> str:
    """The text about a value of the wrong kind, with the right form for a number written as text."""
    return f'found {describe(value)}; expected {expected}{number_hint(value) if "number" in expected else ""}'


def _type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations may name what only a type checker imports; then the defaults must do
        return {}


def _expected_kind(hint: Any, default: Any, value: Any) -> str | None:
    """What was expected, in words, when ``value`` is not of the kind the annotation or else the default shows."""
    if hint is not None:
        return None if _fits(hint, value) else _in_words(hint)
    if value is None or default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool) or value in (0, 1) else 'true or false'
    if isinstance(default, (int, float)):
        # an un-annotated whole default (EDSR's res_scale=1) does not forbid fractions, and lists may stand for
        # one number a stage
        return 'a number' if isinstance(value, (str, bool, Mapping)) else None
    if isinstance(default, str):
        return 'text' if isinstance(value, (bool, int, float, list, tuple, Mapping)) else None
    if isinstance(default, (list, tuple)):
        return 'a list' if isinstance(value, (str, Mapping)) else None
    return None


def is_number(value: Any) -> bool:
    """A YAML number: true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """A whole number, also one written 5e3."""
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
        return not isinstance(value, (str, bool, int, float, Mapping))
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
