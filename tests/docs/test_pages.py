"""The pages that are read outside of the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_house import FLOORS

from room_imports import read_rooms

REPOSITORY = Path(__file__).parents[2]


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / 'README.md').read_text(encoding='utf-8').splitlines()) <= 150


@pytest.mark.parametrize('page', ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'pdan_plugin/weights/README.md'])
def test_links_lead_somewhere(page: str) -> None:
    text = (REPOSITORY / page).read_text(encoding='utf-8')
    links = [link.partition('#')[0] for link in re.findall(r'\]\(([^)]+)\)', text) if not link.startswith('http')]
    missing = [link for link in links if link and not (REPOSITORY / page).parent.joinpath(link).exists()]
    assert not missing


def test_every_question_of_the_architecture_page_is_answered_where_it_says() -> None:
    page = (REPOSITORY / 'docs/architecture.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| .+\? \| `([\w/.]+)` \| `(\w+)` \|$', page, re.MULTILINE)
    assert len(rows) > 10
    for file, name in rows:
        text = (REPOSITORY / 'pdan_plugin' / file).read_text(encoding='utf-8')
        assert re.search(rf'^ *(def|class) {name}\b|^{name}\b.* = ', text, re.MULTILINE), f'{file} has no {name}'


def test_the_rooms_of_the_architecture_page_are_those_of_the_code_from_the_top() -> None:
    page = (REPOSITORY / 'docs/architecture.md').read_text(encoding='utf-8')
    rooms = read_rooms(REPOSITORY / 'pdan_plugin')
    expected = [
        f'| `{name}{"/" if rooms[name].is_folder else ".py"}` | {rooms[name].subject} |'
        for name in FLOORS
        if name in rooms
    ]
    shown = page.partition('| room | holds |\n|---|---|\n')[2].partition('\n\n')[0]
    assert shown == '\n'.join(expected)
