"""The examples of the documentation: its blocks of commands and Python, and how each is tested.

A comment right before a block says how, where it is not run as it is written:

    <!-- test: short
    the commands (or the Python) that are run in its place
    -->
    <!-- test: parse (REASON) -->    only its arguments are read; REASON is one of REASONS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / 'README.md',
    REPOSITORY / 'CONTRIBUTING.md',
    REPOSITORY / 'CHANGELOG.md',
    REPOSITORY / 'pdan_plugin/weights/README.md',
    *sorted((REPOSITORY / 'docs').rglob('*.md')),
]
# What a machine that runs the tests does not have, or what runs elsewhere in the suite.
REASONS = (
    'needs REDS',
    'needs REDS and GPUs',
    'needs GPUs',
    'needs slurm',
    'needs the network',
    'takes minutes',
    'takes hours',
    'the suite cannot run itself',
    'the site has a test of its own',
)

_BLOCK = re.compile(r'^```(bash|python|yaml)\b([^\n]*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r'<!-- test: ((?:(?!-->).)*?)-->\s*\Z', re.DOTALL)
_COMMAND = re.compile(r'`((?:basicsr|python|bash|pip|torchrun) [^`\n]+)`')


@dataclass(frozen=True)
class Example:
    """A block of a page.

    Attributes:
        place: Page and line, for messages.
        language: Of the block.
        text: The block.
        test: 'run' as it is written, 'short' for a short form, or 'parse'.
        short: The short form.
        file: The name under which a reader is to save the block, or None.
    """

    place: str
    language: str
    text: str
    test: Literal['run', 'short', 'parse']
    short: str = ''
    file: str | None = None


def blocks(language: str) -> list[Example]:
    """Every block of a language, in the order of the pages."""
    return [example for page in PAGES for example in _blocks(page) if example.language == language]


def commands_in_sentences() -> list[tuple[str, str]]:
    """(place, command) of the commands between backticks that have arguments; a mere name of a command has none."""
    found = []
    for page in PAGES:
        text = re.sub(r'<!--.*?-->', _blank, _BLOCK.sub(_blank, page.read_text(encoding='utf-8')), flags=re.DOTALL)
        for match in _COMMAND.finditer(text):
            if not re.search(r'\.\.\.|COMMAND|\[-w|^basicsr [\w-]+$|pdan_plugin$', match[1]):
                found.append((_place(page, text, match.start()), match[1].replace('\\|', '|')))
    return found


def _blocks(page: Path) -> list[Example]:
    text = page.read_text(encoding='utf-8')
    found = []
    for match in _BLOCK.finditer(text):
        place = _place(page, text, match.start())
        named = re.search(r'title="([^"]+)"', match[2])
        comment = _COMMENT.search(text[: match.start()])
        kind, _, rest = (
            comment[1].strip().partition('\n' if '\n' in comment[1].strip() else ' ') if comment else ('', '', '')
        )
        if kind == 'parse':
            reason = rest.strip('() ').partition(';')[0]
            assert reason in REASONS, f'{place}: {reason!r} is no reason not to run an example; there are {REASONS}'
        else:
            assert kind in ('', 'short'), f'{place}: expected <!-- test: short or parse -->, found {kind!r}'
        test = {'': 'run', 'short': 'short', 'parse': 'parse'}[kind]
        file = named[1] if named else None
        found.append(Example(place, match[1], match[3], test, rest if kind == 'short' else '', file))  # pyright: ignore[reportArgumentType]
    return found


def _place(page: Path, text: str, offset: int) -> str:
    return f'{page.relative_to(REPOSITORY)}:{text.count(chr(10), 0, offset) + 1}'


def _blank(match: re.Match[str]) -> str:
    return '\n' * match[0].count('\n')
