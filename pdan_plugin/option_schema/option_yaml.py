"""Reads and writes the YAML of option files, with the safe loader; written options read back the same."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.constructors import Problem
from pdan_plugin.option_schema.shipped_options import unreadable

_NO_NAMES = ('tag:yaml.org,2002:bool', 'tag:yaml.org,2002:null')  # on, off, yes, no and ~, which as keys are words
_FLOAT_1_2 = re.compile(r'^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$')


class _OptionLoader(yaml.SafeLoader):
    """The safe loader, with floats as in YAML 1.2, and an error for a key written twice with different values.

    Attributes:
        repeated: Keys written twice with one value: (key, first line, line).
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[tuple[str, int, int]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_seen: dict[Any, tuple[yaml.Mark, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if key_node.tag == 'tag:yaml.org,2002:merge':
                continue
            if key_node.tag in _NO_NAMES and isinstance(key_node, yaml.ScalarNode):
                key_node.tag = 'tag:yaml.org,2002:str'
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in first_seen:
                first, first_value = first_seen[key]
                if self._is_equal(first_value, value_node):
                    self.repeated.append((key, first.line + 1, key_node.start_mark.line + 1))
                    continue
                raise yaml.constructor.ConstructorError(
                    f'while reading the mapping that starts on line {node.start_mark.line + 1}',
                    node.start_mark,
                    f'the key {key!r} is written twice (first on line {first.line + 1}); keep one of them',
                    key_node.start_mark,
                )
            if isinstance(key, str):
                first_seen[key] = key_node.start_mark, value_node
        return super().construct_mapping(node, deep=deep)

    def _is_equal(self, one: yaml.Node, other: yaml.Node) -> bool:
        """Whether two nodes have the same value: 1 is not 1.0, and not true."""
        one_value, other_value = (self.construct_object(node, deep=True) for node in (one, other))
        return repr(one_value) == repr(other_value)


class _OptionDumper(yaml.SafeDumper):
    """Quotes a text such as `1e-4`, which the loader would read as a number."""


# `1` must stay an integer: the resolvers are tried in order and PyYAML's own integer rule comes first.
_OptionLoader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT_1_2, list('-+.0123456789'))
_OptionDumper.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT_1_2, list('-+.0123456789'))


def read_mapping(path: Path, named_by: str = '') -> tuple[str, dict[str, Any], list[Problem]]:
    """The text of one option file, its options, and a warning for each key written twice with one value.

    Args:
        path: The file.
        named_by: Added to the path in messages, for a file that the user did not give: ``' (a.yml extends it)'``.

    Raises:
        RequestError: The file cannot be read, is not YAML, is not a mapping, or writes a key twice with different
            values.
    """
    source = f'{path}{named_by}'
    try:
        content = path.read_bytes()
        # PowerShell redirects into UTF-16
        text = content.decode('utf-16' if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else 'utf-8')
        text = text.replace('\r\n', '\n').replace('\r', '\n')
    except OSError as error:
        reason = f'cannot read the option file ({error.strerror})' if named_by else unreadable(path, error)
        raise RequestError(f'{source}: {reason}') from error
    except UnicodeDecodeError as error:
        raise RequestError(f'{source}: is not UTF-8 text ({error}); save it as UTF-8') from error
    repeated: list[tuple[str, int, int]] = []
    options = parse(text, source, repeated)
    if not isinstance(options, dict):
        found = 'nothing' if options is None else type(options).__name__
        raise RequestError(f'{source}: expected a mapping of options at the top, found {found}')
    _write_keys_as_text(options)
    warnings = [
        Problem(key, f'written twice with one value (lines {first} and {line}); keep one of them', is_warning=True)
        for key, first, line in repeated
    ]
    return text, options, warnings


def _write_keys_as_text(options: dict[Any, Any]) -> None:
    """Makes text of keys that are numbers or dates, in place; keywords of networks and losses may be any."""
    places = [options, *(options.get(word) for word in ('train', 'val', 'path', 'logger', 'dist_params', 'datasets'))]
    datasets = options.get('datasets')
    places += datasets.values() if isinstance(datasets, dict) else ()
    places += [options['val'].get('metrics')] if isinstance(options.get('val'), dict) else []
    for section in places:
        for key in [key for key in section if not isinstance(key, str)] if isinstance(section, dict) else ():
            section[str(key)] = section.pop(key)


def parse(text: str, source: str, repeated: list[tuple[str, int, int]] | None = None) -> Any:
    """The value of a YAML text. Uses of the same anchor do not share an object.

    Args:
        text: The text.
        source: Its file or argument, for messages.
        repeated: Receives the keys that are written twice with one value: (key, first line, line).

    Raises:
        RequestError: The text is not YAML; the message begins with ``source``.
    """
    try:
        loader = _OptionLoader(text)
        try:
            value = unshared(loader.get_single_data())
        finally:
            loader.dispose()
        if repeated is not None:
            repeated += loader.repeated
        return value
    except yaml.YAMLError as error:
        raise RequestError(f'{source}: not readable as YAML: {error}{_remedy(error, text)}') from error
    except RecursionError as error:
        raise RequestError(f'{source}: an anchor contains itself; remove that reference') from error


def _remedy(error: yaml.YAMLError, text: str) -> str:
    """A last line with what to change, for the slips that the parser's own words do not explain; else empty."""
    mark = getattr(error, 'problem_mark', None) or getattr(error, 'context_mark', None)
    lines = text.splitlines()
    near = lines[max(0, mark.line - 1) : mark.line + 1] if mark is not None else []
    if any('\t' in line for line in near) and 'start any token' in str(error):
        return '\nYAML allows no tab here; write spaces instead'
    for line in near:
        if (slip := re.match(r'\s*(\w+):([^\s:/\\].*)$', line)) and "could not find expected ':'" in str(error):
            return f'\nWrite a space after the colon: {slip[1]}: {slip[2]}'
    if 'unknown escape character' in str(error):
        return '\nIn double quotes a backslash begins an escape; write / in paths, or use single quotes'
    return ''


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
