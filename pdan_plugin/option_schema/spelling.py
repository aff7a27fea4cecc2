"""Suggests known spellings for an unknown word. Uses the standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate with the most similar spelling, ignoring case; None if none is close."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=cutoff)
    # swapped letters are the likelier mistake: EDRS means EDSR rather than EDVR
    swapped = [candidate for candidate in close if sorted(candidate) == sorted(word.lower())]
    return by_lower[(swapped or close)[0]] if close else None


def did_you_mean(word: str, candidates: Collection[str], cutoff: float = 0.6) -> str:
    """The end of an error about an unknown word: the closest known word, or all known words."""
    close = nearest(word, candidates, cutoff)
    if close:
        return f"; did you mean '{close}'?"
    return f'; known are: {", ".join(sorted(candidates))}' if candidates else ''
