"""How the toolbox is changed in place, and how it is put back."""

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

# What a probe hands to the toolbox in place of its logger.
SILENT = logging.Logger('probe', logging.CRITICAL + 1)


@dataclass(frozen=True)
class Fix:
    """One defect of the toolbox and the function that mends it.

    Attributes:
        name: Of the function.
        where: File and line in BasicSR 1.4.2, relative to its package.
        upstream: The issue on BasicSR's tracker, or 'none'.
        symptom: What a user saw, in one line.
        is_called_for: Whether this computer and the packages beside the toolbox call for the fix.
        behaves: The probe: whether the toolbox behaves without the fix. None where no probe is possible.
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
        """Makes the fix where it is needed, and returns whether it was.

        Args:
            known: Whether the toolbox is known to need it; None asks the probe.
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
    """Enters the function that makes a fix in FIXES; the arguments are those of :class:`Fix`."""

    def enter(function: Callable[[], None]) -> Callable[[], None]:
        FIXES.append(Fix(function.__name__, where, upstream, symptom, is_called_for, behaves, function))
        return function

    return enter


def probe(function: Callable[Arguments, bool]) -> Callable[Arguments, bool]:
    """Marks a probe: it asks whether the toolbox behaves, and an error while asking means that it does not.

    A probe takes milliseconds and leaves nothing behind: no file, no output, generators and CUDA as they were.
    """

    @functools.wraps(function)
    def ask(*args: Arguments.args, **kwargs: Arguments.kwargs) -> bool:
        try:
            return function(*args, **kwargs)
        except Exception:
            return False

    return ask


def replace(owner: Any, name: str, new: Any) -> None:
    """Sets an attribute of a toolbox module or class and remembers what was there.

    The toolbox and this package import by name, so a replaced module attribute is also rebound in every loaded module
    of theirs that holds the same object.
    """
    original = owner.__dict__.get(name, _ABSENT)
    _set(_Replacement(owner, name, original, new))
    if isinstance(owner, type) or original is _ABSENT:
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
    """Other attributes for the duration of a probe: unlike `replace`, of this one object, and not remembered."""
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
    """The toolbox as published, for the duration: every replacement is put back, then made again.

    The import shims stay, since without them there is no toolbox. Modules imported for the first time inside the
    block bind the stock functions for good; import what a comparison needs before entering it.
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
