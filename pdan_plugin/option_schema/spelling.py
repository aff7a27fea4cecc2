"""The nearest right spelling of a word that is unknown. Needs the standard library alone."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate spelled most like ``word`` (case aside), or None when none is close."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    close = difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=cutoff)
    # of near ties, letters in the wrong order are the likelier mistake: EDRS is EDSR rather than EDVR
    swapped = [candidate for candidate in close if sorted(candidate) == sorted(word.lower())]
    return by_lower[(swapped or close)[0]] if close else None


def did_you_mean(word: str, candidates: Collection[str], cutoff: float = 0.6) -> str:
    """The tail of an error about an unknown word: its nearest spelling, or the words there are."""
    close = nearest(word, candidates, cutoff)
    if close:
        return f"; did you mean '{close}'?"
    return f'; there are {", ".join(sorted(candidates))}' if candidates else ''
