"""The option files that come with this package, and their names. Uses the standard library only."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from pdan_plugin.errors import RequestError

_PACKAGE = Path(__file__).parents[1]
# in an installed package, or in a checkout
FOLDER = next((each for each in (_PACKAGE / 'options', _PACKAGE.parent / 'options') if each.is_dir()), _PACKAGE)


def shipped_options() -> dict[str, Path]:
    """Name -> file, for all option files of the package; a name is a path without its ending: `test/pdan_reds_val`."""
    files = sorted(FOLDER.rglob('*.yml'), key=lambda file: (len(file.relative_to(FOLDER).parts), file))
    return {file.relative_to(FOLDER).with_suffix('').as_posix(): file for file in files}


def shipped_file(asked: str) -> Path:
    """The file of a name, which may also be written as the path in a checkout: `options/pdan_phase1.yml`.

    Raises:
        RequestError: There is no option file of this name in the package.
    """
    shipped = shipped_options()
    name = asked.removeprefix('./').removeprefix('options/').removesuffix('.yml')
    if name not in shipped:
        raise RequestError(
            f'{asked}: no option file of this name comes with the package{_nearest(name, shipped)}; `basicsr options` '
            'lists all names'
        )
    return shipped[name]


def find_option_file(given: str | os.PathLike[str]) -> Path:
    """The option file to read: the given one, or if there is none, the one of this name in the package."""
    path = Path(given)
    if path.suffix or path.is_absolute() or os.path.lexists(path):
        return path
    return shipped_options().get(path.as_posix(), path)


def unreadable(path: str | os.PathLike[str], error: OSError) -> str:
    """The text of an error for an option file that cannot be read, with what to give instead."""
    text = f'cannot read the option file ({error.strerror}); give the path of a YAML file with -opt'
    if not isinstance(error, FileNotFoundError):
        return text
    shipped = shipped_options()
    name = Path(path).as_posix().removeprefix('./').removeprefix('options/').removesuffix('.yml')
    if name in shipped:
        return f'{text}; the package has the file: -opt {name}, or `basicsr options {name} > my.yml` and -opt my.yml'
    return f'{text}{_nearest(name, shipped)}'


def _nearest(name: str, shipped: dict[str, Path]) -> str:
    close = difflib.get_close_matches(name, shipped, n=3)
    return f'; did you mean {" or ".join(close)}?' if close else ''
