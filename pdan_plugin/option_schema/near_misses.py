"""A regular expression for the near-misspellings of known words, for checks that can only match patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def near_miss_pattern(words: Iterable[str]) -> str:
    """A pattern that matches every word that is one typing error away from one of several words.

    The errors are a swapped pair of letters, a missing, a doubled or foreign letter, and a wrong letter in a word of
    five or more: those that `spelling.misspelt` finds, too. A digit, and a label of one letter at the end
    (``optim_g``), make another word and are no errors. The words themselves match, too: exclude them first.
    """
    return f'^(?:{"|".join(sorted({form for word in words for form in _forms(word)}))})$'


def _forms(word: str) -> Iterator[str]:
    end = re.search(r'_[a-z]$', word)
    stem, label = (word[: end.start()], re.escape(end[0])) if end else (word, '')
    parts = [re.escape(letter) for letter in stem]
    for place, letter in enumerate(stem):
        before, after = ''.join(parts[:place]), ''.join(parts[place + 1 :])
        if len(stem) > 2 and not letter.isdigit():
            yield f'{before}{"[^0-9]?" if len(stem) > 4 else ""}{after}{label}'
        yield f'{before}[^0-9]{parts[place]}{after}{label}'
        if place + 1 < len(stem) and stem[place + 1] != letter:
            yield f'{before}{parts[place + 1]}{parts[place]}{"".join(parts[place + 2 :])}{label}'
    if not label:
        yield f'{"".join(parts)}[^0-9_]'
