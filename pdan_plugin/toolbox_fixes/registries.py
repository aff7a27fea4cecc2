"""The error for a name that is not in a registry."""

from __future__ import annotations

import contextlib
import difflib
import io
from typing import Any

from basicsr.utils.registry import Registry

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace


class UnknownNameError(RequestError, KeyError):
    """A registry has no such name. It is also a KeyError, which callers of the toolbox may expect."""

    __str__ = Exception.__str__  # KeyError's own __str__ puts the message in quotes


def get(self: Registry, name: str, suffix: str = 'basicsr') -> Any:
    """The object registered as `name`, or else as `name_suffix`.

    Raises:
        UnknownNameError: Neither is registered.
    """
    for candidate in (name, f'{name}_{suffix}'):
        if candidate in self._obj_map:
            return self._obj_map[candidate]
    names = sorted(str(each).removesuffix(f'_{suffix}') for each in self.keys())
    by_case = [each for each in names if each.lower() == str(name).lower()]
    close = by_case or difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f'did you mean {" or ".join(repr(each) for each in close)}?' if close else f'it has: {", ".join(names)}.'
    raise UnknownNameError(
        f'the {self._name} registry has no {name!r}; {hint} If {name!r} belongs to a plugin, check that the plugin is '
        'installed and listed under `plugins:` in the option file (`basicsr plugins` lists all registered names)'
    )


@fix(
    where='utils/registry.py:69',
    upstream='none (HAT#87, SRFormer#22, SAFMN#30 report it)',
    symptom='an unknown name prints "use name: X_basicsr!" and raises a KeyError without a hint',
    behaves=lambda: _hints_at_a_plugin(),
)
def unknown_names() -> None:
    """The error suggests close matches and a missing plugin. Nothing is printed when the suffixed name is used."""
    replace(Registry, 'get', get)


@probe
def _hints_at_a_plugin() -> bool:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            Registry('probe').get('absent')
        return False
    except KeyError as error:
        return not printed.getvalue() and 'plugin' in str(error)
