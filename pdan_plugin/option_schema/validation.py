"""Checks the values of a section against its schema, and describes the problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.constructors import Problem, wrong_value
from pdan_plugin.option_schema.spelling import misspelt

_Schema = TypeVar('_Schema', bound=sections.Options)


def check_values(
    schema: type[sections.Options], values: Mapping[str, Any], key: str, due: bool = True
) -> list[Problem]:
    """Missing keys and wrong values.

    Args:
        schema: The keys of the section and their kinds.
        values: The section as read.
        key: Its dotted key; empty for the file's top level.
        due: Whether missing required keys are reported.
    """
    try:
        schema.model_validate(dict(values))
    except ValidationError as error:
        return [
            Problem(dotted(key, '.'.join(map(str, item['loc']))), _in_words(item))
            for item in error.errors()
            if due or item['type'] != 'missing'
        ]
    return []


def read_section(schema: type[_Schema], values: Mapping[str, Any], label: str) -> _Schema:
    """The section as an object of its schema. A null key counts as not given. Unknown keys are left out.

    Raises:
        RequestError: Lists all problems of the section, also near-misspellings of its keys, each after ``label``.
    """
    if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  from Python anything may come
        raise RequestError(f'{label}: expected a section of keys, found {values!r}')
    values = {word: value for word, value in values.items() if value is not None}
    problems = check_values(schema, values, '')
    for word in values:
        close = None if word in schema.model_fields else misspelt(word, schema.model_fields)
        if close:
            problems.append(Problem(word, f"unknown key; did you mean '{close}'?"))
    if problems:
        raise RequestError(
            '\n'.join(f'{label}{": " + problem.key if problem.key else ""}: {problem.text}' for problem in problems)
        )
    return schema.model_validate(values)


def dotted(section: str, word: Any) -> str:
    """``train`` and ``optim_g`` give ``train.optim_g``; either may be empty."""
    return f'{section}.{word}' if section and word else section or str(word)


def _in_words(item: Any) -> str:
    if item['type'] == 'missing':
        return 'missing; it must be given'
    if item['type'] == 'together':
        return item['msg']
    context = item.get('ctx', {})
    expected = {
        'option': context.get('expected'),
        'literal_error': context.get('expected'),
        'bool_type': 'true or false',
        'list_type': 'a list',
        'too_short': 'a list that is not empty',
    }.get(item['type'])
    return wrong_value(item['input'], str(expected or item['msg']))
