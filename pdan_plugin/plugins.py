"""Finds and loads plugins: other projects' networks, losses, data sets and models, which register on import.

A plugin has an entry point in the group ``basicsr.plugins`` (ours: ``pdan = pdan_plugin``), or is any module that
registers in the toolbox's registries on import. Without a ``plugins:`` list in the option file all plugins with an
entry point are loaded. With a list only those are; ``[]`` loads none. This package itself is always loaded.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.spelling import nearest

GROUP = 'basicsr.plugins'
OWN_NAMES = ('pdan', 'pdan_plugin')


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin: its entry point's name or module path, the imported module, and the distribution it belongs to.

    ``distribution`` is None for a module without an entry point.
    """

    name: str
    module: str
    distribution: str | None


def load_plugins(names: Sequence[str] | None, source: str = '') -> list[LoadedPlugin]:
    """Imports plugins, so that they register their parts.

    Args:
        names: The entry points' names or module paths to load, ``plugins:`` of an option file as read; None loads all
            plugins with an entry point. Modules are also searched in the working folder, after all installed ones.
        source: The option file, for messages.

    Raises:
        RequestError: This is no list of names, a name is unknown, or a plugin fails on import. The message names it,
            the cause and what to do.
    """
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RequestError(
            f'{f"{source}: " if source else ""}plugins: found {names!r}; expected a list of names, such as '
            '[pdan, my_project.archs]'
        )
    announced = _announced()
    if names is None:
        return [_load(name, entry.load, entry) for name, entry in announced.items()]
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    loaded = []
    for name in names:
        if name in announced:
            loaded.append(_load(name, announced[name].load, announced[name]))
        elif name in OWN_NAMES:
            loaded.append(LoadedPlugin(name, 'pdan_plugin', 'pdan-plugin'))
        else:
            loaded.append(_load(name, lambda name=name: _import(name, list(announced))))
    return loaded


def _announced() -> dict[str, importlib.metadata.EntryPoint]:
    """Entry points by name. Two equal entry points (of an editable install) count once.

    Raises:
        RequestError: Two distributions have different entry points of the same name.
    """
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise RequestError(
                f'two plugins have the name {entry.name!r}: {_distribution(other)} ({other.value}) and '
                f'{_distribution(entry)} ({entry.value}); uninstall one, or list module paths instead: '
                f'plugins: [{other.value}]'
            )
        found[entry.name] = entry
    return found


def _distribution(entry: importlib.metadata.EntryPoint | None) -> str | None:
    distribution = entry.dist if entry is not None else None
    return distribution.metadata['Name'] if distribution is not None else None


def _import(name: str, announced: Sequence[str]) -> ModuleType:
    """Imports a module by its path.

    Raises:
        RequestError: There is none. An error inside the module or its packages is not caught.
    """
    try:
        if all(part.isidentifier() for part in name.split('.')):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f'{name}.'.startswith(f'{error.name}.'):  # the module is there, but lacks something
            raise
    close = nearest(name, announced)
    if name.endswith('.py') and Path(name).is_file():
        close = '.'.join(PurePath(name).with_suffix('').parts)
    guess = f"did you mean '{close}'?" if close else f'installed plugins: {", ".join(announced) or "none"}.'
    raise RequestError(
        f'plugins: there is no installed plugin or module {name!r}; {guess} '
        'Install it, or give the path of a module that can be imported from the working folder'
    )


def _load(name: str, load: Callable[[], Any], entry: importlib.metadata.EntryPoint | None = None) -> LoadedPlugin:
    distribution = _distribution(entry)
    try:
        loaded = load()
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        source = f' (from {distribution})' if distribution else ''
        raise RequestError(
            f'plugin {name!r}{source} failed to load: {type(error).__name__}: {error}{_place(error)}. {_advice(error)} '
            'To run without it, list the plugins you want in the option file: plugins: [...], or plugins: [] for none'
        ) from error
    module = loaded if isinstance(loaded, ModuleType) else sys.modules[loaded.__module__]
    return LoadedPlugin(name, module.__name__, distribution)


def _place(error: BaseException) -> str:
    """File and line of the plugin's code that failed."""
    own = str(Path(__file__))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != own and 'importlib' not in frame.filename
    ]
    return f' (at {frames[-1].filename}:{frames[-1].lineno})' if frames else ''


def _advice(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and (error.name or '').partition('.')[0] == 'basicsr':
        return (
            'It was written for another BasicSR; in 1.4.2 networks are in basicsr.archs and losses in basicsr.losses.'
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'Install what it needs: {error.name}.'
    if isinstance(error, AssertionError) and 'already registered' in str(error):
        return 'Another plugin or the toolbox has registered that name; uninstall one of the two.'
    return 'Update it, or report this to its authors.'
