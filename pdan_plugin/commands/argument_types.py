"""Types of command line arguments: each takes a word and returns its value, or says what was expected."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

from pdan_plugin.errors import RequestError


def path_word(word: str) -> str:
    """A path as it was typed. An empty one, as of a shell variable that is not set, would mean the working folder; a
    hyphen means standard input or output to other programs, and would be a folder or file of that name here."""
    if not word:
        raise ArgumentTypeError("'': expected a path; the folder that you are in is .")
    if word == '-':
        raise ArgumentTypeError(
            "'-': expected a path, because files are read and written here, not standard input and output; what is "
            'named - is ./-'
        )
    return word


def file_path(word: str) -> Path:
    """A path, as of :func:`path_word`."""
    return Path(path_word(word))


def refuse_absent(complaint: str, *paths: str | os.PathLike[str], name: str = '') -> None:
    """Raises a RequestError for the first path that does not exist.

    Args:
        complaint: That it is missing, and what to give instead.
        name: Of the argument, if the path alone does not show which one it is.
    """
    for path in paths:
        if not os.path.exists(path):  # also false for a name that is too long
            raise RequestError(f'{name} {path}: {complaint}'.lstrip())


def whole_number(least: int, most: int | None = None, *, multiple_of: int = 1) -> Callable[[str], int]:
    """The type of a whole number within bounds, both of them allowed."""
    expected = f'a multiple of {multiple_of}' if multiple_of > 1 else 'a whole number'
    expected += f', {least} or more' if most is None else f' from {least} to {most}'

    def convert(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            raise ArgumentTypeError(f'{word!r}: expected {expected}') from None
        if value < least or (most is not None and value > most) or value % multiple_of:
            raise ArgumentTypeError(f'{word!r}: expected {expected}')
        return value

    return convert


def number(least: float, most: float) -> Callable[[str], float]:
    """The type of a number within bounds, both of them allowed."""

    def convert(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise ArgumentTypeError(f'{word!r}: expected a number from {least:g} to {most:g}')
        return value

    return convert


share = number(0, 1)


def memory_size(word: str) -> int:
    """Bytes, at least 1 MiB; K, M, G and T are powers of 1024."""
    value, unit = word.upper().removesuffix('B').removesuffix('I'), 1
    if value[-1:] in tuple('KMGT'):
        value, unit = value[:-1], 1024 ** ('KMGT'.index(value[-1]) + 1)
    try:
        size = int(float(value) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size < 2**20:
        found = f' is {size} bytes' if size > 0 else ''
        raise ArgumentTypeError(f'{word!r}{found}: expected a size such as 500M or 4G')
    return size


def result_size(word: str) -> tuple[int | None, int | None]:
    """A width and a height of a result; one may be left out: ``1920x1080``, ``1920x``, ``x1080``."""
    width, cross, height = word.lower().partition('x')
    try:
        if not cross or not (width or height):
            raise ArgumentTypeError('not two sides')
        side = whole_number(1)
        return side(width) if width else None, side(height) if height else None
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f'{word!r}: expected WIDTHxHEIGHT such as 1920x1080; 1920x or x1080 keeps the shape of the input'
        ) from None


def frame_range(word: str) -> tuple[int, int | None]:
    """The first frame and the one behind the last: ``10:20``, ``10:``, ``:20``."""
    first, colon, last = word.partition(':')
    try:
        start = whole_number(0)(first) if first else 0
        stop = whole_number(1)(last) if last else None
    except ArgumentTypeError:
        colon = ''
        start, stop = 0, None
    if not colon or not (first or last) or (stop is not None and stop <= start):
        raise ArgumentTypeError(
            f'{word!r}: expected A:B, the frames from A up to but without B, counted from 0, such as 0:48, 100: or :48'
        )
    return start, stop


def picture_size(least: int, *, multiple_of: int = 1) -> Callable[[str], tuple[int, int]]:
    """The type of a width and a height, ``320x192`` as (320, 192)."""
    side = whole_number(least, multiple_of=multiple_of)

    def convert(word: str) -> tuple[int, int]:
        width, cross, height = word.lower().partition('x')
        if not cross:
            raise ArgumentTypeError(f'{word!r}: expected WIDTHxHEIGHT, such as 320x192')
        return side(width), side(height)

    return convert
