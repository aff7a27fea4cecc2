"""Reads an option file with the files that it extends and the overrides. No code in it is evaluated."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema import inheritance, option_yaml
from pdan_plugin.option_schema.constructors import Problem
from pdan_plugin.option_schema.shipped_options import find_option_file

# A template such as `{}x4` has text beside its braces; an empty mapping of YAML, `{}`, has none.
_TEMPLATE = re.compile(r'^[^\s\[{\'"&*!|>%@`#][^\s:]*\{\w*(:\w*)?\}|^\{\w*(:\w*)?\}[^\s,:\]}#]')


@dataclass(frozen=True)
class OptionFile:
    """An option file that was read.

    Attributes:
        path: The given file.
        options: Merged with the extended files and the overrides; without the keys `extends` and `without`.
        overrides: As given.
        chain: The file itself, the file that it extends, and so on.
        text: The options as one complete YAML text. If the file extends no other and there are no overrides, it is the
            file's own text with its comments.
    """

    path: Path
    options: dict[str, Any]
    overrides: tuple[str, ...]
    chain: tuple[inheritance.WrittenFile, ...]
    text: str

    def place(self, key: str) -> str:
        """The file in which a dotted key of the options is written, for a message."""
        for entry in self.overrides:
            dotted = '.'.join(word.strip() for word in entry.partition('=')[0].split(':'))
            if key == dotted or key.startswith(f'{dotted}.'):
                return str(self.path)
        return inheritance.place(self.chain, self.options, key)

    def repeated(self) -> list[Problem]:
        """A warning for each key that a file of the chain writes twice, both times with the same value."""
        return [problem for file in self.chain for problem in file.repeated]

    def provenance(self) -> list[str]:
        """The files and overrides that were merged into :attr:`text`, as comment lines; empty for a single file."""
        lines = []
        if len(self.chain) > 1:
            files = [os.path.abspath(file.path) for file in reversed(self.chain)]
            lines += ['merged from these files, each over the one above it:', *(f'  {file}' for file in files)]
        if self.overrides:
            file = 'and then' if lines else os.path.abspath(self.path)
            lines += [f'{file} with --force_yml:', *(f'  {entry}' for entry in self.overrides)]
        return lines


def read_option_file(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The options of a file, as in :func:`load_option_file`."""
    return load_option_file(path, overrides).options


def load_option_file(path: str | Path, overrides: Sequence[str] = ()) -> OptionFile:
    """Reads an option file and the files that it extends, merges them, and applies the overrides.

    The safe YAML loader is used, with two differences from PyYAML: `1e-4` is a number (YAML 1.2; PyYAML reads a
    string), and a key written twice in one mapping with different values is rejected (PyYAML keeps the last). Each use
    of an anchor gets its own copy, so that a value set for one data set does not appear in another.

    `extends: FILE` at the top level names the file to build on, relative to the folder of the file in which it stands.
    `without: [KEYS]` removes inherited keys. For the merging see :func:`~.inheritance.merge`.

    Args:
        path: The option file, or the name of one that comes with this package.
        overrides: `key:sub=value` entries in the form of the toolbox's `--force_yml`. The value is read as YAML;
            `none`, in any letter case, is null; a template such as `{}x4` is text. Elements of a list are addressed by
            number. A missing last key is created, a missing parent section is not.

    Raises:
        RequestError: A file is missing, is not YAML, is not a mapping, or writes a key twice with different values.
            Files extend each other in a circle, or cannot be merged. An override has another form, its value is not
            YAML, or its parent section does not exist.
    """
    path = find_option_file(path)
    chain = inheritance.read_chain(path)
    options = inheritance.merge(chain)
    for entry in overrides:
        _apply_override(options, entry, path)
    text = option_yaml.dump(options) if len(chain) > 1 or overrides else chain[0].text
    return OptionFile(path, options, tuple(overrides), tuple(chain), text)


def _apply_override(options: dict[str, Any], entry: str, path: Path) -> None:
    dotted, equals, text = entry.partition('=')
    keys = [key.strip() for key in dotted.split(':')]
    if not equals or not all(keys):
        raise RequestError(f'--force_yml {entry!r}: expected key:sub=value, for example train:ema_decay=0.999')
    if len(keys) == 1 and '.' in keys[0] and keys[0] not in options:
        raise RequestError(
            f'--force_yml {entry!r}: keys are joined by colons: {keys[0].replace(".", ":")}={text.strip()}'
        )
    if inheritance.EXTENDS in keys or keys[0] == inheritance.WITHOUT:
        raise RequestError(f'--force_yml {entry!r}: extends and without can be set only in the file {path} itself')
    value = _override_value(text.strip(), entry)
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


def _override_value(text: str, entry: str) -> Any:
    """The value of an override, as YAML. `none` is null, and a name template such as `{}x4` is text."""
    if text.lower() == 'none':
        return None
    if _TEMPLATE.search(text):
        return text
    return option_yaml.parse(text, f'--force_yml {entry!r}')


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
    hint = f'it has {", ".join(spellings) or "no keys"}'
    if close:
        hint = f'did you mean {" or ".join(repr(name) for name in close)}?'
    raise RequestError(f'--force_yml {entry!r}: there is no {key!r} in {where} of {path}; {hint}')
