"""The rooms of the package as a drawing (SVG) and as a table (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from room_imports import Room, floors, reachable

# Almost every room imports it, and it imports nothing: its arrows would hide the others.
WITHOUT_ARROWS = frozenset({'errors'})

_WIDTH = 960
_BOX_HEIGHT, _FLOOR_HEIGHT, _MARGIN = 34, 86, 12
_LETTER, _PADDING, _GAP = 8.4, 24, 18


def drawn_arrows(rooms: Mapping[str, Room]) -> set[tuple[str, str]]:
    """The arrows that are always visible: imports that no longer way of arrows implies.

    Arrows within a circle of rooms are all drawn.
    """
    reached = reachable(rooms)
    arrows = {(name, other) for name in rooms for other in rooms[name].imports} - _hidden(rooms)
    return {
        (name, other)
        for name, other in arrows
        if name in reached[other]
        or not any(
            other in reached[between] and between not in reached[other] and name not in reached[between]
            for between in rooms[name].imports
        )
    }


def draw(rooms: Mapping[str, Room]) -> str:
    """The drawing: a box for each room, its arrows, and on pointing at a room all of its arrows."""
    levels = floors(rooms)
    boxes = _place(rooms, levels)
    always = drawn_arrows(rooms)
    height = len(levels) * _FLOOR_HEIGHT - (_FLOOR_HEIGHT - _BOX_HEIGHT) + 2 * _MARGIN
    parts = [
        '<div class="rooms" tabindex="-1">',
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        'aria-label="The rooms of the package and their imports; the table below has the same content">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="arrow-head" d="M0,0.5 L8,4 L0,7.5 z"/></marker></defs>',
    ]
    for level in levels:
        for group in level:
            if len(group) > 1:
                parts.append(_frame([boxes[name] for name in group]))
    for level in levels:
        for name in [name for group in level for name in group]:
            parts.append(f'<g class="room" tabindex="0"><title>{escape(rooms[name].subject)}</title>')
            for other in sorted(rooms[name].imports):
                kind = 'arrow' if (name, other) in always else 'arrow implied'
                parts.append(f'<path class="{kind}" d="{_curve(boxes[name], boxes[other])}" marker-end="url(#arrow)"/>')
            parts.append(_box(name, rooms[name], boxes[name]))
            parts.append('</g>')
    parts += ['</svg>', '</div>']
    return '\n'.join(parts)


def table(rooms: Mapping[str, Room]) -> str:
    """The rooms from the highest floor to the lowest: what each holds, and what it imports from."""
    lines = ['| room | holds | imports from |', '|---|---|---|']
    for level in floors(rooms):
        for name in [name for group in level for name in group]:
            room = rooms[name]
            written = f'`{name}/`' if room.is_folder else f'`{name}.py`'
            lines.append(f'| {written} | {room.subject} | {", ".join(sorted(room.imports)) or "–"} |')
    return '\n'.join(lines)


def _hidden(rooms: Mapping[str, Room]) -> set[tuple[str, str]]:
    return {(name, other) for name in rooms for other in WITHOUT_ARROWS}


Box = tuple[float, float, float]  # left, top, width


def _place(rooms: Mapping[str, Room], levels: list[list[list[str]]]) -> dict[str, Box]:
    """Each floor's boxes side by side, ordered so that arrows are short."""
    boxes: dict[str, Box] = {}
    for number in range(len(levels) - 1, -1, -1):  # from below: the places of what is imported are known

        def centre(group: list[str]) -> float:
            below = [boxes[other] for name in group for other in rooms[name].imports if other in boxes]
            return sum(left + width / 2 for left, _, width in below) / len(below) if below else _WIDTH / 2

        names = [name for group in sorted(levels[number], key=centre) for name in group]
        widths = [len(_label(name, rooms[name])) * _LETTER + _PADDING for name in names]
        free = _WIDTH - 2 * _MARGIN - sum(widths)
        gap = min(max(free / (len(names) + 1), _GAP), 90)
        left = (_WIDTH - sum(widths) - gap * (len(names) - 1)) / 2
        for name, width in zip(names, widths, strict=True):
            boxes[name] = (left, _MARGIN + number * _FLOOR_HEIGHT, width)
            left += width + gap
    return boxes


def _label(name: str, room: Room) -> str:
    return f'{name}/' if room.is_folder else f'{name}.py'


def _box(name: str, room: Room, box: Box) -> str:
    left, top, width = box
    return (
        f'<rect class="box" x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{_BOX_HEIGHT}" rx="4"/>'
        f'<text x="{left + width / 2:.0f}" y="{top + 22:.0f}">{escape(_label(name, room))}</text>'
    )


def _frame(boxes: list[Box]) -> str:
    """Around rooms that import each other."""
    left, right = min(box[0] for box in boxes) - 8, max(box[0] + box[2] for box in boxes) + 8
    top = boxes[0][1] - 8
    return (
        f'<rect class="circle" x="{left:.0f}" y="{top:.0f}" width="{right - left:.0f}" height="{_BOX_HEIGHT + 16}" '
        'rx="8"><title>These rooms import each other.</title></rect>'
    )


def _curve(start: Box, end: Box) -> str:
    x1, x2 = start[0] + start[2] / 2, end[0] + end[2] / 2
    if start[1] == end[1]:  # on one floor: above the boxes
        top = start[1]
        return f'M{x1:.0f},{top:.0f} C{x1:.0f},{top - 24:.0f} {x2:.0f},{top - 24:.0f} {x2:.0f},{top - 1:.0f}'
    y1, y2 = start[1] + _BOX_HEIGHT, end[1] - 1
    bend = (y2 - y1) * 0.45
    return f'M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f} {x2:.0f},{y2:.0f}'
