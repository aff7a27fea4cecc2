"""Reading an option file: YAML as people write it, with command-line overrides, and nothing evaluated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pdan_plugin.errors import RequestError

_FLOAT_1_2 = re.compile(r'^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$')


class _OptionLoader(yaml.SafeLoader):
    """YAML's safe rules, floats as YAML 1.2 reads them, and no key twice in one mapping."""

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


# `1` must stay an integer: the resolvers are tried in order and PyYAML's own integer rule comes first.
_OptionLoader.add_implicit_resolver('tag:yaml.org,2002:float', _FLOAT_1_2, list('-+.0123456789'))


def read_option_file(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads an option file and lays the overrides over it.

    YAML is read by its safe rules with two differences from PyYAML: `1e-4` is a number (YAML 1.2; PyYAML reads a
    string), and a key written twice in one mapping is refused (PyYAML keeps the last). An anchor used in several
    places gives each place its own copy, so that nothing set for one data set appears in another.

    Args:
        path: The option file.
        overrides: `key:sub=value` entries in the form of the toolbox's `--force_yml`. The value is read as YAML;
            `none` is null in any case. Elements of a list are addressed by number. A last key that does not exist is
            created, its parent section is not.

    Raises:
        RequestError: The file is missing, is not YAML, is not a mapping, writes a key twice, or an override has
            another form, an unreadable value or a parent section that does not exist.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise RequestError(
            f'{path}: cannot read the option file ({error.strerror}); give the path of a YAML file with -opt'
        ) from error
    except UnicodeDecodeError as error:
        raise RequestError(f'{path}: is not UTF-8 text ({error}); an option file is YAML') from error
    options = _parse(text, str(path))
    if not isinstance(options, dict):
        found = 'nothing' if options is None else type(options).__name__
        raise RequestError(f'{path}: expected a mapping of options at the top, found {found}')
    for entry in overrides:
        _apply_override(options, entry, path)
    return options


def _parse(text: str, source: str) -> Any:
    try:
        return _unshared(yaml.load(text, Loader=_OptionLoader))
    except yaml.YAMLError as error:
        raise RequestError(f'{source}: not readable as YAML: {error}') from error
    except RecursionError as error:
        raise RequestError(f'{source}: an anchor contains itself; options cannot be endless') from error


def _unshared(value: Any) -> Any:
    """A copy in which places that shared an anchor no longer share an object."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value


def _apply_override(options: dict[str, Any], entry: str, path: Path) -> None:
    dotted, equals, text = entry.partition('=')
    keys = [key.strip() for key in dotted.split(':')]
    if not equals or not all(keys):
        raise RequestError(f'--force_yml {entry!r}: expected key:sub=value, for example train:ema_decay=0.999')
    if len(keys) == 1 and '.' in keys[0] and keys[0] not in options:
        raise RequestError(
            f'--force_yml {entry!r}: keys are joined by colons: {keys[0].replace(".", ":")}={text.strip()}'
        )
    text = text.strip()
    value = None if text.lower() == 'none' else _parse(text, f'--force_yml {entry!r}')
    section: Any = options
    for depth, key in enumerate(keys[:-1]):
        section = _step(section, key, ':'.join(keys[:depth]), entry, path)
    if isinstance(section, dict):
        section[keys[-1]] = value
    elif isinstance(section, list):
        _step(section, keys[-1], ':'.join(keys[:-1]), entry, path)
        section[int(keys[-1])] = value
    else:
        raise RequestError(
            f'--force_yml {entry!r}: in {path}, {":".join(keys[:-1])!r} is the value {section!r}, not a section; '
            'only a section can be given keys'
        )


def _step(section: Any, key: str, parent: str, entry: str, path: Path) -> Any:
    where = f'section {parent!r}' if parent else 'the top level'
    if isinstance(section, list):
        if key.isdigit() and int(key) < len(section):
            return section[int(key)]
        raise RequestError(
            f'--force_yml {entry!r}: {where} of {path} is a list of {len(section)}; '
            f'expected a number from 0 to {len(section) - 1}, got {key!r}'
        )
    if isinstance(section, dict) and key in section:
        return section[key]
    spellings = [str(name) for name in section] if isinstance(section, dict) else []
    close = difflib.get_close_matches(key, spellings, n=3)
    hint = f'did you mean {" or ".join(repr(name) for name in close)}?' if close else f'it has {", ".join(spellings)}'
    raise RequestError(f'--force_yml {entry!r}: there is no {key!r} in {where} of {path}; {hint}')
