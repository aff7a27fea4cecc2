"""JSON Schema of the sections ``{type: NAME, keyword: value, ...}``, from the signature that each NAME stands for.

The kinds of values are those that constructors.py checks.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from basicsr.utils.registry import Registry

from pdan_plugin.option_schema.constructors import is_own, type_hints
from pdan_plugin.option_schema.key_descriptions import documented_arguments, first_sentence
from pdan_plugin.option_schema.near_misses import near_miss_pattern
from pdan_plugin.option_schema.passed_on import PassedOn, passed_on

JsonSchema = dict[str, Any]
NUMBER: JsonSchema = {'type': 'number'}
NUMBERS: JsonSchema = {'type': 'array', 'items': {'type': 'number'}}
_SIMPLE = {bool: 'boolean', int: 'integer', float: 'number', str: 'string', type(None): 'null'}


def reference(definition: str) -> JsonSchema:
    """Refers to a definition of the whole schema."""
    return {'$ref': f'#/definitions/{definition}'}


def registered_in(registry: Registry) -> dict[str, Any]:
    """What is registered, by the names that an option file uses, in their order."""
    return dict(sorted((name.removesuffix('_basicsr'), target) for name, target in registry))


def spellings(name: str) -> list[str]:
    """All ways to write a name: the toolbox registers some classes as NAME_basicsr and finds them by both names."""
    return [name, f'{name}_basicsr']


def nullable(schema: JsonSchema) -> JsonSchema:
    """The schema that also accepts null, which means "not set" in an option file."""
    if not schema or schema.keys() <= {'description', 'default', 'title'}:
        return schema
    kept = {key: value for key, value in schema.items() if key in ('description', 'default')}
    rest = {key: value for key, value in schema.items() if key not in kept}
    if rest.keys() == {'enum'}:
        return {**kept, 'enum': list(dict.fromkeys([*rest['enum'], None]))}
    if isinstance(rest.get('type'), str) and not rest.keys() & {'enum', 'const'}:
        return {**kept, **rest, 'type': list(dict.fromkeys([rest['type'], 'null']))}
    options = rest['anyOf'] if rest.keys() == {'anyOf'} else [rest]
    return {**kept, 'anyOf': [*options, *([] if {'type': 'null'} in options else [{'type': 'null'}])]}


def due(keys: Iterable[str]) -> JsonSchema:
    """The schema that requires keys, with values that are not null."""
    words = sorted(keys)
    return {'required': words, 'properties': {word: {'not': {'type': 'null'}} for word in words}} if words else {}


def name_schema(names: Iterable[str]) -> JsonSchema:
    """A registered name. Another text passes, which may be a plugin's, unless it nearly is one of the names."""
    words = sorted(names)
    return {'anyOf': [{'enum': words}, {'type': 'string', 'not': {'pattern': near_miss_pattern(words)}}]}


def when(key: str, names: Collection[str], schema: JsonSchema) -> JsonSchema:
    """The schema that applies if a key has one of several values."""
    return {'if': {'required': [key], 'properties': {key: {'enum': sorted(names)}}}, 'then': schema}


def typed_section(
    named: Mapping[str, Callable[..., Any]],
    *,
    provided: Collection[str] = (),
    extra: Mapping[str, JsonSchema] | None = None,
    replaced: Mapping[str, JsonSchema] | None = None,
) -> JsonSchema:
    """A section ``{type: NAME, ...}``, or null.

    Args:
        named: What each NAME stands for.
        provided: Parameters that the toolbox passes itself.
        extra: Further keys of every section.
        replaced: Keywords whose value is checked by more than the signature.
    """
    branches = []
    for name, target in named.items():
        properties = {
            word: (replaced or {}).get(word, schema) for word, schema in keyword_schemas(target, provided).items()
        }
        section: JsonSchema = {'properties': {'type': {}, **(extra or {}), **properties}}
        if not takes_any(target):
            section['additionalProperties'] = False
        description = first_sentence(target)
        branches.append(when('type', spellings(name), {'description': description, **section}))
    return {
        'type': ['object', 'null'],
        'properties': {'type': name_schema(named)},
        'allOf': branches,
    }


def required_keywords(named: Mapping[str, Callable[..., Any]], provided: Collection[str] = ()) -> JsonSchema:
    """What a section ``{type: NAME, ...}`` must have if nothing is inherited."""
    branches = []
    for name, target in named.items():
        words = [
            word
            for word, parameter in _parameters(target).items()
            if parameter.default is parameter.empty and word not in provided and not _is_starred(parameter)
        ]
        if words:
            branches.append(when('type', spellings(name), due(words)))
    return {**due(['type']), **({'allOf': branches} if branches else {})}


def keyword_schemas(target: Callable[..., Any], provided: Collection[str] = ()) -> dict[str, JsonSchema]:
    """The schema of each keyword: kind, default, and the meaning that the docstring gives."""
    hints, meanings = type_hints(target), documented_arguments(inspect.getdoc(target) or '')
    schemas: dict[str, JsonSchema] = {}
    for word, parameter in _parameters(target).items():
        if word in provided or _is_starred(parameter):
            continue
        schema = _of_hint(hints[word]) if word in hints else _of_default(parameter.default)
        described: JsonSchema = {'description': meanings[word]} if word in meanings else {}
        if isinstance(parameter.default, (bool, int, float, str)) and parameter.default == parameter.default:
            described['default'] = parameter.default
        is_optional = parameter.default is not parameter.empty
        schemas[word] = {**described, **(nullable(schema) if is_optional else schema)}
    for word in _rest(target).known:
        schemas.setdefault(word, {})
    return schemas


def takes_any(target: Callable[..., Any]) -> bool:
    """Whether a class or function may take keywords that its source does not name."""
    rest = _rest(target)
    return rest.is_unsure or rest.is_dropped or not _has_signature(target)


def _rest(target: Callable[..., Any]) -> PassedOn:
    swallows = any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(target).values())
    return passed_on(target) if swallows and not is_own(target) else PassedOn()


def _has_signature(target: Callable[..., Any]) -> bool:
    try:
        inspect.signature(target)
    except (TypeError, ValueError):  # a builtin
        return False
    return True


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters if _has_signature(target) else {}


def _is_starred(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)


def _of_hint(hint: Any) -> JsonSchema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [_of_hint(argument) for argument in arguments]
        return {'anyOf': options} if all(options) else {}
    if origin is typing.Literal:
        return {'enum': list(arguments)}
    if hint in _SIMPLE or hint is None:
        return {'type': _SIMPLE.get(hint, 'null')}
    container = origin or hint
    if not inspect.isclass(container):
        return {}
    if issubclass(container, Mapping):
        return {'type': 'object'}
    if container in (list, tuple) or container.__module__ == 'collections.abc':
        return {'type': 'array'}
    return {}


def _of_default(default: Any) -> JsonSchema:
    """Without an annotation: the kind of the default. A number may also be one number a stage: a list."""
    if isinstance(default, bool):
        return {'anyOf': [{'type': 'boolean'}, {'enum': [0, 1]}]}
    if isinstance(default, (int, float)):
        return {'anyOf': [{'type': 'number'}, {'type': 'array'}]}
    if isinstance(default, str):
        return {'type': 'string'}
    if isinstance(default, (list, tuple)):
        return {'not': {'type': ['string', 'object']}}
    return {}
