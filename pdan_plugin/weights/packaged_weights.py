"""The weights that come with this package, and their names for `-w`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.spelling import did_you_mean

FOLDER = Path(__file__).parent
DEFAULT = 'pdan_small'


def packaged_weights() -> dict[str, Path]:
    """Name (the file name without its ending) -> file, for all weights in the package."""
    return {path.stem: path for path in sorted(FOLDER.glob('*.safetensors'))}


def resolve_packaged_weights(options: Mapping[str, Any]) -> None:
    """Replaces the name of packaged weights in ``path: pretrain_network_...`` by its file, in place.

    An existing file of this name has priority, as in `find_weights_file`.
    """
    paths = options.get('path')
    if not isinstance(paths, dict):
        return
    for key, value in paths.items():
        if key.startswith('pretrain_network') and isinstance(value, str) and not Path(value).is_file():
            paths[key] = str(packaged_weights().get(value, value))


def find_weights_file(asked: Path | None) -> tuple[Path, bool]:
    """The weights file to use, and whether it comes from the package.

    Args:
        asked: A file, or the name of packaged weights; an existing file has priority. None for the default.

    Returns:
        (file, is packaged). A path is returned as given, even if it does not exist.

    Raises:
        RequestError: A bare word that is neither a file nor the name of packaged weights.
    """
    packaged = packaged_weights()
    name = DEFAULT if asked is None else str(asked)
    if asked is not None and (asked.is_file() or len(asked.parts) > 1):
        return asked, False
    if name in packaged:
        return packaged[name], True
    path = Path(name)
    if path.exists() or (path.suffix and path.stem not in packaged):  # pdan_small.pth is meant as pdan_small
        return path, False
    raise RequestError(
        f'{name}: no such weights file, and no weights of this name in the package{did_you_mean(name, packaged)}'
    )
