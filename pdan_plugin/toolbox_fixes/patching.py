"""Changes the toolbox in memory, and restores it."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec

Arguments = ParamSpec('Arguments')

_ABSENT = object()
_REBOUND = ('basicsr', 'pdan_plugin')

# Replaces the toolbox's logger in probes.
SILENT = logging.Logger('probe', logging.CRITICAL + 1)


@dataclass(frozen=True)
class Fix:
    """One defect of the toolbox and the function that fixes it.

    Attributes:
        name: Name of the function.
        where: File and line in BasicSR 1.4.2, relative to its package.
        upstream: The issue on BasicSR's tracker, or 'none'.
        symptom: What a user sees without the fix, in one line.
        is_called_for: Whether the fix makes sense on this computer with the installed packages.
        behaves: The probe: whether the toolbox works correctly without the fix. None if no probe is possible.
        make: Makes the fix.
    """

    name: str
    where: str
    upstream: str
    symptom: str
    is_called_for: Callable[[], bool]
    behaves: Callable[[], bool] | None
    make: Callable[[], None]

    def apply(self, known: bool | None = None) -> bool:
        """Makes the fix if it is needed. Returns whether it was needed.

        Args:
            known: Whether the toolbox is known to need it; None runs the probe.
        """
        if not self.is_called_for():
            return False
        if known is None:
            known = self.behaves is None or not self.behaves()
        if known:
            self.make()
        return known


@dataclass(frozen=True)
class _Replacement:
    owner: Any
    name: str
    original: Any
    new: Any


FIXES: list[Fix] = []
_replacements: list[_Replacement] = []


def fix(
    *,
    where: str,
    upstream: str,
    symptom: str,
    is_called_for: Callable[[], bool] = lambda: True,
    behaves: Callable[[], bool] | None = None,
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Adds the decorated function to FIXES. For the arguments see :class:`Fix`."""

    def enter(function: Callable[[], None]) -> Callable[[], None]:
        FIXES.append(Fix(function.__name__, where, upstream, symptom, is_called_for, behaves, function))
        return function

    return enter


def probe(function: Callable[Arguments, bool]) -> Callable[Arguments, bool]:
    """Decorates a probe, which returns whether the toolbox works correctly. An exception in it counts as False.

    A probe takes milliseconds and has no side effects: no file, no output, no change of random generators or CUDA.
    """

    @functools.wraps(function)
    def ask(*args: Arguments.args, **kwargs: Arguments.kwargs) -> bool:
        try:
            return function(*args, **kwargs)
        except Exception:
            return False

    return ask


def replace(owner: Any, name: str, new: Any, *, everywhere: bool = True) -> None:
    """Sets an attribute of a toolbox module or class and remembers the original.

    The toolbox and this package import by name. So a module attribute is also replaced in every loaded module of both
    that holds the same object, unless ``everywhere`` is false.
    """
    original = owner.__dict__.get(name, _ABSENT)
    _set(_Replacement(owner, name, original, new))
    if isinstance(owner, type) or original is _ABSENT or not everywhere:
        return
    for module_name, module in list(sys.modules.items()):
        if module is owner or module is None or module_name.partition('.')[0] not in _REBOUND:
            continue
        for bound_name, value in list(vars(module).items()):
            if value is original:
                _set(_Replacement(module, bound_name, original, new))


def _set(replacement: _Replacement) -> None:
    setattr(replacement.owner, replacement.name, replacement.new)
    _replacements.append(replacement)


@contextmanager
def swapped(owner: Any, **attributes: Any) -> Iterator[None]:
    """Replaces attributes of one object inside the block, for probes. Unlike `replace`, it is always undone at the
    end."""
    before = {name: vars(owner).get(name, _ABSENT) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            if value is not _ABSENT:
                setattr(owner, name, value)
            elif name in vars(owner):
                delattr(owner, name)


@contextmanager
def stock_toolbox() -> Iterator[None]:
    """Inside the block the toolbox is as published: every replacement is undone, and made again at the end.

    The import shims stay, because the toolbox cannot be imported without them. Modules that are first imported inside
    the block keep the stock functions afterwards; import what you need before the block.
    """
    for replacement in reversed(_replacements):
        if replacement.original is _ABSENT:
            delattr(replacement.owner, replacement.name)
        else:
            setattr(replacement.owner, replacement.name, replacement.original)
    try:
        yield
    finally:
        for replacement in _replacements:
            setattr(replacement.owner, replacement.name, replacement.new)
