"""Which room of the package imports from which, read from the source code."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The package's face and its command import what they show; nothing is learned from their arrows.
ENTRANCE = ('__init__', '__main__')


@dataclass(frozen=True)
class Room:
    """A folder of the package, or a module that lies directly in it.

    Attributes:
        name: The folder's, or the module's without its ending.
        is_folder: Whether it is a folder.
        subject: The first sentence of its docstring.
        imports: The names of the other rooms that its modules import from, also inside functions.
    """

    name: str
    is_folder: bool
    subject: str
    imports: frozenset[str]


def read_rooms(package: Path) -> dict[str, Room]:
    """Every room of a package by its name, without the package's entrance.

    Args:
        package: The package's folder.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(package.rglob('*.py')):
        parts = path.relative_to(package).parts
        name = parts[0] if len(parts) > 1 else path.stem
        if name not in ENTRANCE:
            files.setdefault(name, []).append(path)
    trees = {name: [ast.parse(path.read_text(encoding='utf-8')) for path in paths] for name, paths in files.items()}
    return {
        name: Room(
            name,
            is_folder=(package / name).is_dir(),
            subject=_subject(package, name),
            imports=frozenset(
                imported
                for tree in trees[name]
                for imported in _imported(tree, package.name)
                if imported in files and imported != name
            ),
        )
        for name in files
    }


def floors(rooms: Mapping[str, Room]) -> list[list[list[str]]]:
    """The rooms by floor, the highest floor first: a room stands above everything that it imports from.

    Rooms that import each other, directly or through others, stand together.

    Returns:
        For each floor its groups, each a sorted list of names; a group of one is a room without a circle.
    """
    reached = reachable(rooms)
    groups = {name: sorted({name} | {other for other in reached[name] if name in reached[other]}) for name in rooms}
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            below = {other for member in groups[name] for other in rooms[member].imports} - set(groups[name])
            heights[name] = 1 + max((height(other) for other in below), default=-1)
        return heights[name]

    highest = max(height(name) for name in rooms)
    return [
        sorted([groups[name] for name in rooms if height(name) == level and groups[name][0] == name])
        for level in range(highest, -1, -1)
    ]


def reachable(rooms: Mapping[str, Room]) -> dict[str, set[str]]:
    """For each room, the rooms that it imports from, directly or through others."""
    found: dict[str, set[str]] = {}
    for name in rooms:
        seen: set[str] = set()
        waiting = list(rooms[name].imports)
        while waiting:
            other = waiting.pop()
            if other not in seen:
                seen.add(other)
                waiting.extend(rooms[other].imports)
        found[name] = seen
    return found


def _imported(tree: ast.Module, package: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return {name.split('.')[1] for name in names if name.startswith(f'{package}.')}


def _subject(package: Path, name: str) -> str:
    path = package / name / '__init__.py' if (package / name).is_dir() else package / f'{name}.py'
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return ' '.join(docstring.partition('\n\n')[0].split())
