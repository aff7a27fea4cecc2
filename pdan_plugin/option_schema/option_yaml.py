"""Reads and writes the YAML of option files, with the safe loader; written options read back the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pdan_plugin.errors import RequestError

_FLOAT_1_2 = re.compile(r'^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$')


class _OptionLoader(yaml.SafeLoader):
    """The safe loader, with floats as in YAML 1.2, and an error for a key written twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_seen: dict[Any, yaml.Mark] = {}
        for key_node, _ in node.value:
            if key_node.tag == 'tag:yaml.org,2002:merge':
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in first_seen:
                raise yaml.constructor.ConstructorError(
                    f'while reading the mapping that starts on line {node.start_mark.line + 1}',
                    node.start_mark,
                    f'the key {key!r} is written twice (first on line {first_seen[key].line + 1}); keep one of them',
                    key_node.start_mark,
                )
            if isinstance(key, str):
                first_seen[key] = key_node.start_mark
        return super().construct_mapping(node, deep=deep)


class _OptionDumper(yaml.SafeDumper):
    """Quotes a text such as `1e-4`, which the loader would read as a number."""


# `1` must stay an integer: the resolvers are tried in order and PyYAML's own integer rule comes first.
_OptionLoader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT_1_2, list('-+.0123456789'))
_OptionDumper.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT_1_2, list('-+.0123456789'))


def read_mapping(path: Path, named_by: str = '') -> tuple[str, dict[str, Any]]:
    """The text of one option file, and its options.

    Args:
        path: The file.
        named_by: Added to the path in messages, for a file that the user did not give: ``' (a.yml extends it)'``.

    Raises:
        RequestError: The file cannot be read, is not YAML, is not a mapping, or writes a key twice.
    """
    source = f'{path}{named_by}'
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        advice = '' if named_by else '; give the path of a YAML file with -opt'
        raise RequestError(f'{source}: cannot read the option file ({error.strerror}){advice}') from error
    except UnicodeDecodeError as error:
        raise RequestError(f'{source}: is not UTF-8 text ({error}); an option file is YAML') from error
    options = parse(text, source)
    if not isinstance(options, dict):
        found = 'nothing' if options is None else type(options).__name__
        raise RequestError(f'{source}: expected a mapping of options at the top, found {found}')
    return text, options


def parse(text: str, source: str) -> Any:
    """The value of a YAML text. Uses of the same anchor do not share an object.

    Raises:
        RequestError: The text is not YAML; the message begins with ``source``.
    """
    try:
        return unshared(yaml.load(text, Loader=_OptionLoader))
    except yaml.YAMLError as error:
        raise RequestError(f'{source}: not readable as YAML: {error}') from error
    except RecursionError as error:
        raise RequestError(f'{source}: an anchor contains itself; remove that reference') from error


def dump(options: Mapping[str, Any]) -> str:
    """Options as YAML, with the order of keys; :func:`parse` reads the same options from it."""
    return yaml.dump(options, Dumper=_OptionDumper, sort_keys=False, allow_unicode=True)


def unshared(value: Any) -> Any:
    """A deep copy in which no two places share an object."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unshared(item) for item in value]
    return value
