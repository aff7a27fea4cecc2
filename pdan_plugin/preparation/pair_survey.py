"""Finds the pictures of a person's own folders, matches GT and LQ, and chooses which pairs are held out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdan_plugin.errors import RequestError, first_of
from pdan_plugin.files.folder_walk import files_below
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.media.picture_files import is_picture_file

VALIDATION_SHARE, MOST_VALIDATION = 0.1, 100


@dataclass(frozen=True)
class PictureFiles:
    """A GT picture and its LQ picture.

    Attributes:
        name: The pair's name in the prepared folders: the path below the GT folder without ending, ``/`` as ``_``.
        gt: The GT file.
        lq: The LQ file; None: it is computed from GT.
    """

    name: str
    gt: Path
    lq: Path | None = None


def found_pairs(gt: Path, lq: Path | None, filename_tmpl: str, *, least: int) -> list[PictureFiles]:
    """All pairs, by name.

    Args:
        gt: The folder of GT pictures, read with its subfolders.
        lq: The folder of LQ pictures; None if there is none.
        filename_tmpl: The name of an LQ picture for the name of a GT picture, such as ``'{}x4'``.
        least: 2 if a picture validates, else 1.

    Raises:
        RequestError: A folder is missing or has too few pictures, two pictures get one name, or pictures have no
            partner; all are listed.
    """
    if filename_tmpl.count('{}') != 1 or '/' in filename_tmpl:
        raise RequestError(f"--filename-tmpl {filename_tmpl!r}: expected one {{}} in it, such as '{{}}x4'")
    sharp = _pictures(gt, 'GT')
    if len(sharp) < least:
        needed = 'one' if least == 1 else 'two, one to train on and one to validate on'
        raise RequestError(
            f'{gt}: found {len(sharp)} pictures; expected at least {needed} ({", ".join(PICTURE_SUFFIXES)})'
        )
    partners = None if lq is None else _partners(sharp, _pictures(lq, 'LQ'), gt, lq, filename_tmpl)
    pairs = [
        PictureFiles(key.replace('/', '_'), path, None if partners is None else partners[key])
        for key, path in sharp.items()
    ]
    _refuse_equal_names(pairs)
    return pairs


def held_out(names: Sequence[str], count: int | None) -> list[str]:
    """The names of the pairs for validation, spread evenly over the sorted names.

    Args:
        names: All names.
        count: How many; None: a tenth, at least 1, at most 100.

    Raises:
        RequestError: No pair would remain to train on.
    """
    if count is None:
        count = min(MOST_VALIDATION, max(1, round(len(names) * VALIDATION_SHARE)))
    if count >= len(names):
        raise RequestError(
            f'--validation {count}: there are {len(names)} pairs; expected at most {len(names) - 1}, so that some '
            'remain to train on'
        )
    step = len(names) / max(1, count)
    return [names[int((number + 0.5) * step)] for number in range(count)]


def refuse_names_of_parts(names: Sequence[str]) -> None:
    """For sub-images: ``a_s001`` would be a picture of that name, and the first part of ``a``.

    Raises:
        RequestError: Such names exist.
    """
    every = set(names)
    equal = [name for name in names if re.search(r'_s\d+$', name) and re.sub(r'_s\d+$', '', name) in every]
    if equal:
        raise RequestError(
            "with --sub-images these names would also be those of another picture's parts; rename them:\n  "
            + '\n  '.join(first_of(equal))
        )


def _pictures(folder: Path, kind: str) -> dict[str, Path]:
    """Path below the folder without ending -> file, of all pictures that `basicsr restore` finds in a folder.

    Hidden files and folders of thumbnails are left out; links are followed.
    """
    if not folder.is_dir():
        found = 'is a file' if folder.exists() else 'does not exist'
        raise RequestError(f'{kind} {folder}: {found}; expected a folder of pictures')
    found_files: dict[str, list[Path]] = defaultdict(list)
    for path in files_below(folder):
        if is_picture_file(path):
            found_files[path.relative_to(folder).with_suffix('').as_posix()].append(path)
    twice = [f'{paths[0]} and {paths[1].name}' for paths in found_files.values() if len(paths) > 1]
    if twice:
        raise RequestError(
            f'{folder}: pictures that differ only in their ending; keep one of each:\n  ' + '\n  '.join(first_of(twice))
        )
    return {key: paths[0] for key, paths in sorted(found_files.items())}


def _partners(
    sharp: Mapping[str, Path], small: Mapping[str, Path], gt: Path, lq: Path, filename_tmpl: str
) -> dict[str, Path]:
    def expected(key: str) -> str:
        above, slash, name = key.rpartition('/')
        return f'{above}{slash}{filename_tmpl.replace("{}", name)}'

    partners = {key: small[expected(key)] for key in sharp if expected(key) in small}
    lonely = [f'{sharp[key]}: expected {lq / expected(key)} (any ending)' for key in sharp if key not in partners]
    used = set(partners.values())
    lonely += [f'{path}: no GT picture in {gt} belongs to it' for path in small.values() if path not in used]
    if lonely:
        hint = _hint(list(sharp), list(small), filename_tmpl)
        raise RequestError(f'{len(lonely)} pictures have no partner{hint}:\n  ' + '\n  '.join(first_of(lonely, 10)))
    return partners


def _hint(sharp: Sequence[str], small: Sequence[str], filename_tmpl: str) -> str:
    """A template that fits, if all LQ names are a GT name with one text before and one after it."""
    for key in sharp[:1]:
        name = key.rpartition('/')[2]
        for other in small:
            before, middle, after = other.rpartition('/')[2].partition(name)
            template = f'{before}{{}}{after}'
            names = {other.rpartition('/')[2] for other in small}
            fits = all(template.replace('{}', each.rpartition('/')[2]) in names for each in sharp)
            if middle and template != filename_tmpl and fits:
                return f"; the names fit with --filename-tmpl '{template}'"
    return ''


def _refuse_equal_names(pairs: Sequence[PictureFiles]) -> None:
    by_name: dict[str, list[PictureFiles]] = defaultdict(list)
    for pair in pairs:
        by_name[pair.name].append(pair)
    equal = [' and '.join(str(pair.gt) for pair in group) for group in by_name.values() if len(group) > 1]
    if equal:
        raise RequestError(
            'pictures whose prepared names would be equal (folder_name); rename one of each:\n  '
            + '\n  '.join(first_of(equal))
        )
