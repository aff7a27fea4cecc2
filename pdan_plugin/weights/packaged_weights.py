"""The weights that come with this package, and how `-w` names them."""

from __future__ import annotations

from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.spelling import did_you_mean

FOLDER = Path(__file__).parent
DEFAULT = 'pdan_small'


def packaged_weights() -> dict[str, Path]:
    """Every file of weights in the package by its name, the file's without its ending."""
    return {path.stem: path for path in sorted(FOLDER.glob('*.safetensors'))}


def find_weights(asked: Path | None) -> tuple[Path, bool]:
    """The file to use, and whether it was found by its name in the package.

    Args:
        asked: A file, or the name of packaged weights; a file of that name comes first. None for the default.

    Returns:
        A file as it was asked for, whether or not it exists.

    Raises:
        RequestError: A bare word that is neither.
    """
    packaged = packaged_weights()
    name = DEFAULT if asked is None else str(asked)
    if asked is not None and (asked.is_file() or len(asked.parts) > 1 or asked.suffix):
        return asked, False
    if name not in packaged:
        raise RequestError(
            f'{name}: no such weights file, and the package has no weights of that name{did_you_mean(name, packaged)}'
        )
    return packaged[name], True
