"""What a folder holds."""

from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """The files in a folder and its folders, by their paths in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())
