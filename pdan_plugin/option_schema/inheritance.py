"""`extends: FILE` and `without: [KEYS]`: an option file builds on another file, which may build on a third."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.constructors import Problem
from pdan_plugin.option_schema.option_yaml import read_mapping, unshared
from pdan_plugin.option_schema.shipped_options import shipped_options

EXTENDS, WITHOUT = 'extends', 'without'


@dataclass(frozen=True)
class WrittenFile:
    """One option file before merging.

    Attributes:
        path: The file.
        text: Its whole text.
        options: Its options, without the keys `extends` and `without`.
        extends: The value of `extends`; None if the file extends no other.
        without: Dotted keys that it removes from the file that it extends.
        repeated: A warning for each key that it writes twice with one value.
    """

    path: Path
    text: str
    options: dict[str, Any]
    extends: str | None
    without: tuple[str, ...]
    repeated: tuple[Problem, ...] = ()

    def writes(self, keys: Sequence[str]) -> bool:
        """Whether the file has this key, given as ``['train', 'optim_g', 'lr']``."""
        section: Any = self.options
        for key in keys:
            if not isinstance(section, dict) or key not in section:
                return False
            section = section[key]
        return True


def read_chain(path: Path) -> list[WrittenFile]:
    """The file, the file that it extends, the file that this one extends, and so on.

    Raises:
        RequestError: A file cannot be read, is not a mapping of options, or has a wrong `extends` or `without`; or the
            files extend each other in a circle.
    """
    chain: list[WrittenFile] = []
    following: Path | None = path
    while following is not None:
        named_by = f' ({chain[-1].path} extends it)' if chain else ''
        text, options, repeated = read_mapping(following, named_by)
        source = f'{following}{named_by}'
        _refuse_misplaced(options, source)
        extends, without = _pop_extends(options, source), _pop_without(options, source)
        if without and extends is None:
            raise RequestError(
                f'{source}: {WITHOUT}: removes keys of the file that is extended, but {EXTENDS}: is missing'
            )
        chain.append(WrittenFile(following, text, options, extends, without, tuple(repeated)))
        following = None if extends is None else _base_path(extends, chain)
    return chain


def merge(chain: Sequence[WrittenFile]) -> dict[str, Any]:
    """The options of a chain: each file is merged over the one that it extends.

    First the keys in `without` are removed. Then sections are merged key by key; every other value replaces the
    inherited one, also a whole list. A null removes an inherited section. A null for an inherited value stays a null,
    as in any option file.

    Args:
        chain: The result of :func:`read_chain`; the first file extends all others. It is not changed.

    Raises:
        RequestError: A file has a list or a single value and the extended file has a section, or the other way round;
            or `without` names a key that is not inherited.
    """
    merged = unshared(chain[-1].options)
    for level in range(len(chain) - 2, -1, -1):
        for dotted in chain[level].without:
            _take_out(merged, dotted, chain[level:])
        merged = _laid_over(merged, chain[level].options, (), chain[level:])
    return merged


def place(chain: Sequence[WrittenFile], merged: Mapping[str, Any], key: str) -> str:
    """The file in which a dotted key is written, for a message.

    If several files write it, the one with the final value is returned. For a key that the merged options lack, it is
    the file of the section around the key.
    """
    keys: list[str] = []
    section: Any = merged
    for word in key.split('.'):
        if not isinstance(section, Mapping) or word not in section:
            break
        keys.append(word)
        section = section[word]
    file = next((file for file in chain if file.writes(keys)), chain[0])
    return str(file.path) if file is chain[0] else f'{file.path} ({chain[0].path} extends it)'


def _refuse_misplaced(options: Mapping[str, Any], source: str) -> None:
    for key in options:
        close = difflib.get_close_matches(str(key), [EXTENDS, WITHOUT], n=1, cutoff=0.8)
        if close and key not in (EXTENDS, WITHOUT):
            raise RequestError(f'{source}: unknown key {key!r}; did you mean {close[0]!r}?')
    below = _find_below(options, ())
    if below is not None:
        raise RequestError(
            f'{source}: {".".join(below)}: only a whole file can extend another one; write `{EXTENDS}: FILE` at the '
            'top level, not inside a section'
        )


def _find_below(value: Any, above: tuple[str, ...]) -> tuple[str, ...] | None:
    """The place of a key `extends` that is not at the top level."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key == EXTENDS and above:
            return (*above, EXTENDS)
        found = _find_below(item, (*above, str(key)))
        if found is not None:
            return found
    return None


def _pop_extends(options: dict[str, Any], source: str) -> str | None:
    if EXTENDS not in options:
        return None
    value = options.pop(EXTENDS)
    if not isinstance(value, str) or not value.strip():
        found = 'nothing' if value is None else repr(value)
        more = '; a file extends one other file, which may extend another' if value else ''
        raise RequestError(f'{source}: {EXTENDS}: found {found}; expected the path of one option file{more}')
    return value.strip()


def _pop_without(options: dict[str, Any], source: str) -> tuple[str, ...]:
    value = options.pop(WITHOUT, [])
    if not isinstance(value, list) or not all(isinstance(dotted, str) for dotted in value):
        raise RequestError(
            f'{source}: {WITHOUT}: found {value!r}; expected a list of inherited keys, such as [network_g, val.tile]'
        )
    return tuple(value)


def _base_path(extends: str, chain: Sequence[WrittenFile]) -> Path:
    """The file that the last one of the chain extends.

    Raises:
        RequestError: It does not exist, or is already in the chain.
    """
    path = chain[-1].path
    given = Path(os.path.expanduser(extends))
    found = _without_detours(path.parent / given)
    if not os.path.exists(found):
        found = shipped_options().get(extends, found)
    if not os.path.exists(found):
        folder = found.parent
        others = {other.stem: other.name for other in folder.glob('*.y*ml')} if folder.is_dir() else {}
        close = difflib.get_close_matches(found.stem, others, n=3)
        hint = f'; did you mean {" or ".join(repr(others[stem]) for stem in close)}?' if close else ''
        relative = '' if given.is_absolute() else f' (relative to the folder of {path.name})'
        raise RequestError(f'{path}: {EXTENDS}: {extends}: there is no file {found}{relative}{hint}')
    known = [file.path.resolve() for file in chain]
    if found.resolve() in known:
        start = known.index(found.resolve())
        circle = ' -> '.join(str(file.path) for file in (*chain[start:], chain[start]))
        raise RequestError(f'{path}: {EXTENDS}: {extends}: the files extend each other in a circle: {circle}')
    return found


def _without_detours(path: Path) -> Path:
    """``a/b/../c.yml`` as ``a/c.yml``, unless a linked folder makes that another file."""
    short = os.path.normpath(path)
    return Path(short) if os.path.realpath(short) == os.path.realpath(path) else path


def _laid_over(
    base: dict[str, Any], over: Mapping[str, Any], above: tuple[str, ...], chain: Sequence[WrittenFile]
) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = base.get(key)
        if isinstance(inherited, dict) and value is None:
            del merged[key]
        elif isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = _laid_over(inherited, value, (*above, str(key)), chain)
        elif isinstance(inherited, dict) or (isinstance(value, dict) and inherited is not None):
            raise _unlike(inherited, value, (*above, str(key)), chain)
        else:
            merged[key] = unshared(value)
    return merged


def _unlike(inherited: Any, value: Any, keys: tuple[str, ...], chain: Sequence[WrittenFile]) -> RequestError:
    key, base = '.'.join(keys), next(file.path for file in chain[1:] if file.writes(keys))
    if isinstance(inherited, dict):
        return RequestError(
            f'{chain[0].path}: {key}: found {value!r}; expected a section of keys, as in {base}, which it extends. '
            f'To remove the section, write `{keys[-1]}: ~`'
        )
    kind = 'a list' if isinstance(inherited, list) else f'the value {inherited!r}'
    return RequestError(
        f'{chain[0].path}: {key}: found a section of keys; {base}, which it extends, has {kind} here. '
        f'If you want a section, remove the inherited value: `{WITHOUT}: [{key}]`'
    )


def _take_out(merged: dict[str, Any], dotted: str, chain: Sequence[WrittenFile]) -> None:
    section: Any = merged
    *above, last = dotted.split('.')
    for word in above:
        section = section.get(word) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        known = list(_dotted_keys(merged))
        close = difflib.get_close_matches(dotted.replace(':', '.'), known, n=3)
        hint = f'; did you mean {" or ".join(map(repr, close))}?' if close else ''
        raise RequestError(
            f'{chain[0].path}: {WITHOUT}: there is no key {dotted!r} in {chain[1].path}, which it extends{hint}'
        )
    del section[last]


def _dotted_keys(section: Mapping[str, Any], above: str = '') -> Iterator[str]:
    for key, value in section.items():
        yield f'{above}{key}'
        if isinstance(value, dict):
            yield from _dotted_keys(value, f'{above}{key}.')
