"""Suggests known spellings for an unknown word. Uses the standard library only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate with the most similar spelling, ignoring case; None if none is close."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=cutoff)
    # swapped letters are the likelier mistake: EDRS means EDSR rather than EDVR
    swapped = [candidate for candidate in close if sorted(candidate) == sorted(word.lower())]
    return by_lower[(swapped or close)[0]] if close else None


def longer_name(word: str, candidates: Iterable[str]) -> str | None:
    """The shortest candidate of which a word of two letters or more is a part, ignoring case: psnr, calculate_psnr."""
    longer = [each for each in candidates if len(word) >= 2 and word.lower() in each.lower()]
    return min(longer, key=len, default=None)


def misspelt(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a word is a near-misspelling of; None if there is none.

    That is: swapped letters, or a similarity of 0.85; of 0.8 for words of up to six letters, in which one wrong letter
    weighs more. Words that differ only in a number or in a label of one letter are different words: ``optim_g``,
    ``optim_d``.
    """
    word_itself = _without_labels(word)
    others = [other for other in candidates if _without_labels(other) != word_itself or other.lower() == word.lower()]
    swapped = [other for other in others if sorted(other.lower()) == sorted(word.lower())]
    short = [other for other in others if max(len(other), len(word)) <= 6]
    return next(iter(swapped), None) or nearest(word, others, 0.85) or nearest(word, short, 0.8)


def _without_labels(word: str) -> str:
    return re.sub(r'\d+|(?<=_)[a-z](?![a-z])', '', word.lower())


def did_you_mean(word: str, candidates: Collection[str]) -> str:
    """The end of an error about an unknown word: the closest known word, or all known words."""
    close = nearest(word, candidates)
    if close:
        return f"; did you mean '{close}'?"
    return f'; known are: {", ".join(sorted(candidates))}' if candidates else ''
