"""What is generated for the site agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from docstring_markup import as_markdown
from options_reference import documented_arguments, expected_value, reference, section_table
from pdan_plugin.option_schema import sections
from room_imports import Room, floors, reachable, read_rooms
from rooms_drawing import WITHOUT_ARROWS, draw, drawn_arrows, table
from site_hook import GENERATED, PACKAGE, with_generated

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def rooms() -> dict[str, Room]:
    return read_rooms(PACKAGE)


@pytest.fixture(scope='module')
def options() -> str:
    return reference()


class TestDrawing:
    def test_every_arrow_is_an_import_and_every_import_is_drawn_or_implied(self, rooms: dict[str, Room]) -> None:
        """The imports are found a second time, by their words."""
        written: set[tuple[str, str]] = set()
        for path in PACKAGE.rglob('*.py'):
            parts = path.relative_to(PACKAGE).parts
            room = parts[0] if len(parts) > 1 else path.stem
            text = path.read_text(encoding='utf-8')
            found = re.findall(r'^\s*(?:from|import) pdan_plugin\.(\w+)', text, re.MULTILINE)
            for line in re.findall(r'^\s*from pdan_plugin import ([\w, ]+)', text, re.MULTILINE):
                found += line.split(', ')
            written |= {(room, other) for other in found if room in rooms and other in rooms and other != room}
        arrows = drawn_arrows(rooms)
        assert arrows <= written
        drawn = {name: Room(name, True, '', frozenset(to for start, to in arrows if start == name)) for name in rooms}
        implied = reachable(drawn)
        missing = {(name, to) for name, to in written if to not in implied[name] and to not in WITHOUT_ARROWS}
        assert not missing

    def test_each_room_has_one_box(self, rooms: dict[str, Room]) -> None:
        folders = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
        assert folders <= set(rooms)
        drawing = draw(rooms)
        assert drawing.count('class="box"') == len(rooms)
        assert all(f'>{name}/</text>' in drawing for name in folders)

    def test_imports_lead_down(self, rooms: dict[str, Room]) -> None:
        place = {
            name: (number, group) for number, level in enumerate(floors(rooms)) for group in level for name in group
        }
        for name, room in rooms.items():
            for other in room.imports:
                assert place[other][0] > place[name][0] or other in place[name][1]

    def test_the_table_has_every_room_with_its_subject(self, rooms: dict[str, Room]) -> None:
        lines = table(rooms).splitlines()
        assert len(lines) == len(rooms) + 2
        assert all(room.subject for room in rooms.values())

    def test_circles_and_late_imports(self, tmp_path: Path) -> None:
        package = tmp_path / 'house'
        for name, text in {
            'top/__init__.py': '"""Up."""\nfrom house.left import x\nfrom house.base import z\n',
            'left/__init__.py': '"""Left."""\ndef late():\n    from house import right\n',
            'right/__init__.py': '"""Right."""\nimport house.left.part\n',
            'left/part.py': 'import house.base\n',
            'base.py': '"""Below\nall."""\n',
            '__init__.py': 'from house.top import x\n',
        }.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(text)
        made = read_rooms(package)
        assert floors(made) == [[['top']], [['left', 'right']], [['base']]]
        assert made['base'].subject == 'Below all.'
        assert drawn_arrows(made) == {('top', 'left'), ('left', 'right'), ('right', 'left'), ('left', 'base')}


class TestOptionsReference:
    def test_every_key_of_every_option_file_is_in_it(self, options: str) -> None:
        named = set(re.findall(r'`(\w+)', options))
        missing = set()
        for path in (REPOSITORY / 'options').rglob('*.yml'):
            written = yaml.safe_load(path.read_text(encoding='utf-8'))
            written.get('val', {}).pop('metrics', None)  # its keys are names of the user's choice
            keys = set(_keys(written)) - set(written.get('datasets', {}))
            missing |= {f'{path.name}: {key}' for key in keys if key not in named and not key.startswith('network_')}
        missing = {entry for entry in missing if not re.search(r'_[gd]$', entry)}  # weights by the network's letter
        assert not missing

    def test_every_key_of_the_schema_has_its_meaning(self, options: str) -> None:
        for schema in sections.Options.__subclasses__():
            for key, field in schema.model_fields.items():
                assert field.description, f'{schema.__name__}.{key}: give it a docstring'
                assert f'| `{key}` | {field.description} |' in options

    def test_what_is_required_when(self) -> None:
        data = section_table(sections.DataSet, sections.TrainDataSet)
        assert re.search(r'\| `batch_size_per_gpu` \|.*\| \*\*required\*\* in training \|', data)
        assert re.search(r'\| `num_prefetch_queue` \|.*\| `1` \|', data)

    def test_values_in_the_words_of_the_check(self) -> None:
        assert expected_value(sections.Train, 'total_iter') == 'a whole number, 1 or more'
        assert expected_value(sections.Train, 'tf32') == 'true or false'
        assert (
            expected_value(sections.Degradation, 'jpeg_quality')
            == 'a JPEG quality from 1 to 100, or two such as [40, 95]'
        )

    def test_arguments_of_a_docstring(self) -> None:
        docstring = (
            'Text.\n\nArgs:\n    one: the first,\n        on two lines.\n    two: 2.\n\nRaises:\n    ValueError: no.'
        )
        assert documented_arguments(docstring) == {'one': 'the first, on two lines.', 'two': '2.'}

    def test_own_networks_with_their_keywords(self, options: str) -> None:
        assert '| `num_feat` | channels of every feature map. | `int` | `128` |' in options


def test_every_mark_in_the_pages_is_generated() -> None:
    pages = [path.read_text(encoding='utf-8') for path in (REPOSITORY / 'docs').rglob('*.md')]
    marks = {name for page in pages for name in re.findall(r'<!-- generated: ([^>]+) -->', page)}
    assert marks == set(GENERATED)
    assert 'class="rooms"' in with_generated('a\n\n<!-- generated: drawing -->\n\nb')
    with pytest.raises(KeyError):
        with_generated('<!-- generated: nothing -->')


def test_docstrings_as_markdown() -> None:
    docstring = (
        'Means over n*c*h, see :class:`~a.b.Loss`; `a*b` stays.\n\n.. math::\n    L = w * x\n\n>>> 2 * 3\n6\n\nEnd.'
    )
    assert as_markdown(docstring) == (
        'Means over n\\*c\\*h, see `Loss`; `a*b` stays.\n\n```latex\nL = w * x\n```\n\n'
        '```pycon\n>>> 2 * 3\n6\n```\n\n\nEnd.'
    )


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        chosen = [key for key in value if not str(key).startswith('optim_')]
        return [*map(str, chosen), *(key for each in chosen for key in _keys(value[each]))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []
