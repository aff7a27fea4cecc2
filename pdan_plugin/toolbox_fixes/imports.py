"""Makes `import basicsr` work with current packages, and checks which `basicsr` it finds."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import fix

OWN_DISTRIBUTION = 'pdan-plugin'
_FUNCTIONAL_TENSOR = 'torchvision.transforms.functional_tensor'
_SCIPY_FILTERS = 'scipy.ndimage.filters'


def require_real_toolbox() -> Path:
    """Checks that `import basicsr` finds the installed toolbox, and returns its folder.

    It does not import the toolbox. Projects built on BasicSR often contain a copy of it in a folder of the same name
    (NAFNet installs its copy under this name). If Python finds such a copy first, errors appear later and elsewhere.

    Raises:
        RequestError: No `basicsr` is installed, another folder is found before it, or the installed package of this
            name is not the toolbox.
    """
    try:
        spec = importlib.util.find_spec('basicsr')
    except ImportError:  # an import hook blocks it
        spec = None
    found = Path(os.path.realpath(spec.origin)).parent if spec is not None and spec.origin else None
    distribution = _toolbox_distribution()
    if distribution is None:
        where = f' (the folder {found} has its name, but is not installed)' if found else ''
        raise RequestError(f'BasicSR is not installed{where}: `python -m pdan_plugin.install_toolbox` installs it')
    installed = _installed_folder(distribution)
    if found is None or (installed is not None and found != installed):
        shadow = found or (next(iter(spec.submodule_search_locations or []), None) if spec is not None else None)
        raise RequestError(
            f'`import basicsr` finds {shadow or "nothing"}, not the installed toolbox in {installed}. '
            'A folder named basicsr in the working folder or on PYTHONPATH comes first: start the command from '
            'another folder, remove that entry from PYTHONPATH, or rename the folder'
        )
    missing = [part for part in ('archs', 'utils/registry.py', 'train.py') if not (found / part).exists()]
    if missing:
        raise RequestError(
            f'basicsr {distribution.version} in {found} is not the toolbox (it has no '
            f'{", ".join(missing)}); a project that uses the same name has replaced it: '
            f'`pip uninstall {distribution.name}`, then `python -m pdan_plugin.install_toolbox`'
        )
    return found


def _toolbox_distribution() -> importlib.metadata.Distribution | None:
    """The installed distribution that has a package `basicsr`. Its name may differ: new-basicsr is GitHub's master."""
    try:
        return importlib.metadata.distribution('basicsr')
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get('basicsr', [])
        return importlib.metadata.distribution(names[0]) if names else None


def _installed_folder(distribution: importlib.metadata.Distribution) -> Path | None:
    """The package folder of a distribution; None if the distribution has no list of files."""
    from urllib.parse import urlparse
    from urllib.request import url2pathname  # slow to import: it brings http and ssl

    direct_url = json.loads(distribution.read_text('direct_url.json') or '{}')
    if direct_url.get('dir_info', {}).get('editable'):
        return Path(os.path.realpath(url2pathname(urlparse(direct_url['url']).path))) / 'basicsr'
    for file in distribution.files or []:
        if file.as_posix() == 'basicsr/__init__.py':
            return Path(os.path.realpath(str(distribution.locate_file(file)))).parent
    return None


def other_basicsr_commands() -> list[str]:
    """Sorted names of the installed distributions, except ours, that declare a console command `basicsr`."""
    names = set()
    for distribution in importlib.metadata.distributions():
        if 'basicsr' not in (distribution.read_text('entry_points.txt') or ''):
            continue  # reading the metadata of every distribution takes most of a second
        name = distribution.metadata['Name'] or ''
        if re.sub(r'[-_.]+', '-', name).lower() == OWN_DISTRIBUTION:
            continue
        if any(entry.group == 'console_scripts' and entry.name == 'basicsr' for entry in distribution.entry_points):
            names.add(name)
    return sorted(names)


@fix(
    where='data/degradations.py:8',
    upstream='#533, #663, #711',
    symptom="import basicsr fails: No module named 'torchvision.transforms.functional_tensor'",
    is_called_for=lambda: importlib.util.find_spec(_FUNCTIONAL_TENSOR) is None,
)
def torchvision_functional_tensor() -> None:
    """torchvision 0.17 removed the module. The toolbox uses only its `rgb_to_grayscale`, which is public elsewhere."""
    functional = importlib.import_module('torchvision.transforms.functional')
    stand_in(_FUNCTIONAL_TENSOR, {'rgb_to_grayscale': functional.rgb_to_grayscale})


@fix(
    where='metrics/niqe.py:5',
    upstream='none',
    symptom='-W error: scipy.ndimage.filters is deprecated',
    is_called_for=lambda: _scipy_warns_or_fails(),
)
def scipy_ndimage_filters() -> None:
    """The names moved to `scipy.ndimage`. The old module warns on each access and will be removed."""
    ndimage = importlib.import_module('scipy.ndimage')
    shim = stand_in(_SCIPY_FILTERS, {public: getattr(ndimage, public) for public in ndimage.__all__})
    setattr(ndimage, 'filters', shim)  # noqa: B010 (a module takes no attributes by type)


def _scipy_warns_or_fails() -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            importlib.import_module(_SCIPY_FILTERS).convolve  # noqa: B018 (access to the name warns)
    except (ImportError, AttributeError, DeprecationWarning):
        return True
    return False


@fix(
    where='archs/arch_util.py:6',
    upstream='none',
    symptom="Python 3.12: No module named 'distutils'",
    is_called_for=lambda: _has_no_distutils(),
)
def distutils_version() -> None:
    """Python 3.12 removed distutils. setuptools provides it, but need not be installed."""
    version = stand_in('distutils.version', {'LooseVersion': LooseVersion})
    stand_in('distutils', {'__path__': [], 'version': version})


def _has_no_distutils() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # up to Python 3.11 the import of distutils warns
        try:
            importlib.import_module('distutils.version')
        except ImportError:
            return True
    return False


def stand_in(name: str, content: Mapping[str, Any]) -> types.ModuleType:
    """Creates a module and makes it importable under the name."""
    shim = types.ModuleType(name, 'Replaces a module that was removed.')
    vars(shim).update(content)
    shim.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    sys.modules[name] = shim
    return shim


class LooseVersion:
    """The part of distutils' class that the toolbox uses: compares versions by their numbers and words."""

    def __init__(self, text: str) -> None:
        parts = re.findall(r'\d+|[a-z]+', text.lower())
        self.version = [(0, int(part), '') if part.isdigit() else (-1, 0, part) for part in parts]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LooseVersion) and self.version == other.version

    def __hash__(self) -> int:
        return hash(tuple(self.version))

    def __lt__(self, other: LooseVersion) -> bool:
        return self.version < other.version

    def __le__(self, other: LooseVersion) -> bool:
        return self.version <= other.version

    def __gt__(self, other: LooseVersion) -> bool:
        return self.version > other.version

    def __ge__(self, other: LooseVersion) -> bool:
        return self.version >= other.version
