"""Finds the weights of a network in the content of a file, whichever program wrote it.

Trainers nest a state dict (``{'state_dict': ...}``, ``{'model': ...}``) and put the names of their wrappers before
those of the network (``model.``, ``generator.module.``). The names of the network itself show which part is meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.weights.bare_state import bare_name, unwrapped_name
from pdan_plugin.weights.plain_tensors import refuse_other_kinds
from pdan_plugin.weights.run_log import log_line

_DEEPEST = 4  # levels of sections in a file
_COUNTERS = ('total_ops', 'total_params')  # which the profiler thop leaves in each layer: no weights
CHOOSE = 'Choose with --param-key KEY (in an option file path: param_key_g: KEY).'


@dataclass(frozen=True)
class _Section:
    """The tensors of one section of a file; ``is_pure`` if it holds nothing else. The whole file has an empty key."""

    key: str
    tensors: dict[str, Tensor]
    is_pure: bool


@dataclass(frozen=True)
class _Found:
    """Weights behind a common prefix of a section, and how many of the network's names (and shapes) they have."""

    section: _Section
    prefix: str
    weights: dict[str, Tensor]
    agreement: tuple[int, int]

    @property
    def label(self) -> str:
        """What --param-key takes to choose them."""
        return '.'.join(part for part in (self.section.key, self.prefix.removesuffix('.')) if part)


def find_weights(content: Any, source: str, own: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The weights in the content of a file, under the names of the unwrapped network.

    Args:
        content: What torch or safetensors read.
        source: The file, for messages.
        own: The state of the network they are for. If it is known, the weights may lie in any section of the file and
            behind any common prefix; those that agree with most of its names are used. Of several that agree equally,
            the one with ``ema`` in its key, the average, is used. Names without the prefix belong to something else
            and are left out. The log reports what was used.

    Raises:
        RequestError: No weights are found, or several and none of them is the average; the message lists the keys. Or
            they are no numbers of the network's kind (:func:`~.plain_tensors.refuse_other_kinds`).
    """
    if isinstance(content, Mapping) and not content:
        return {}
    sections = list(_sections(content))
    found = [each for section in sections for each in _agreeing(section, own or {})]
    # a few names behind a prefix may agree by chance
    found = [each for each in found if not each.prefix or 2 * each.agreement[1] >= len(own or {})]
    most = max((each.agreement for each in found), default=(0, 0))
    found = [each for each in found if each.agreement == most]
    averages = [each for each in found if 'ema' in each.label.lower()]
    if len(found) > 1 and len(averages) == 1:
        found = averages
    if len(found) > 1:
        labels = some_of(repr(each.label) for each in found)
        raise RequestError(f'{source}: {len(found)} sets of weights have the names of the network: {labels}. {CHOOSE}')
    if found:
        _report(found[0], source)
        refuse_other_kinds(found[0].weights, own or {}, source)
        return found[0].weights
    pure = [section for section in sections if section.is_pure]
    if len(pure) == 1:  # whoever loads them reports names that do not fit
        weights = {bare_name(name): value for name, value in pure[0].tensors.items()}
        refuse_other_kinds(weights, own or {}, source)
        return weights
    keys = f'; its keys are {keys_in_words(content)}. {CHOOSE}' if isinstance(content, Mapping) else ''
    raise RequestError(
        f'{source}: expected a dict of names and tensors (the weights of a network), found something else{keys}'
    )


def states_behind(content: Any, name: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every place in a file's content where weights with a tensor of this name begin.

    Yields:
        What --param-key takes to choose them, and the weights, without the prefix of their names.
    """
    for section in _sections(content):
        named = {unwrapped_name(each): value for each, value in section.tensors.items()}
        for each in named:
            prefix = each.removesuffix(name)
            if each.endswith(name) and (not prefix or prefix.endswith('.')):
                weights = {
                    other.removeprefix(prefix): value for other, value in named.items() if other.startswith(prefix)
                }
                yield _Found(section, prefix, weights, (0, 0)).label, weights


def has_tensors(content: Any) -> bool:
    """Whether a file's content holds tensors under names, in any section."""
    return next(_sections(content), None) is not None


def choose_part(content: Any, key: str, source: str) -> Any:
    """The part of a file's content under a key: a section, nested sections joined by dots, or a prefix of names.

    Raises:
        RequestError: There is no such part; the message lists the keys.
    """
    part = _part(content, key)
    if part is None:
        raise RequestError(f'{source}: has no key {key!r}, only {keys_in_words(content)}. {CHOOSE}')
    return part


def keys_in_words(content: Any) -> str:
    """The first keys of a file's content; of names of parameters, their first parts."""
    if not isinstance(content, Mapping):
        return 'none'
    keys = (str(key).split('.')[0] if isinstance(value, Tensor) else str(key) for key, value in content.items())
    return some_of(map(repr, dict.fromkeys(keys)), 8)


def _part(content: Any, key: str) -> Any:
    if not isinstance(content, Mapping):
        return None
    if key in content:
        return content[key]
    for name, value in content.items():
        if isinstance(value, Mapping) and key.startswith(f'{name}.'):
            return _part(value, key.removeprefix(f'{name}.'))
    prefix = f'{key.removesuffix(".")}.'
    return {name.removeprefix(prefix): value for name, value in content.items() if str(name).startswith(prefix)} or None


def _sections(content: Any, key: str = '', depth: int = 0) -> Iterator[_Section]:
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    content = {name: value for name, value in content.items() if isinstance(name, str)}  # others have numbers of epochs
    values = {name: value for name, value in content.items() if name.rpartition('.')[2] not in _COUNTERS}
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    if tensors:
        yield _Section(key, tensors, len(tensors) == len(values))
    for name, value in content.items():
        yield from _sections(value, f'{key}.{name}' if key else name, depth + 1)


def _agreeing(section: _Section, own: Mapping[str, Tensor]) -> Iterator[_Found]:
    """The weights behind each prefix that some of the network's names have in a section."""
    named = {unwrapped_name(name): value for name, value in section.tensors.items()}
    prefixes = {name.removesuffix(ending) for name in named for ending in _endings(name) if ending in own}
    for prefix in sorted(prefixes):
        weights = {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
        common = weights.keys() & own.keys()
        shapes = sum(weights[name].shape == own[name].shape for name in common)
        yield _Found(section, prefix, weights, (shapes, len(common)))


def _endings(name: str) -> Iterator[str]:
    parts = name.split('.')
    return ('.'.join(parts[start:]) for start in range(len(parts)))


def _report(found: _Found, source: str) -> None:
    left_out = len(found.section.tensors) - len(found.weights)
    if found.label or left_out:
        others = f'; {left_out} tensors with other names are left out' if left_out else ''
        log_line(f'{source}: the weights of the network are those under {found.label!r}{others}.')
