"""Chooses the photographs to render training clips from, and makes all of them large enough.

    python scripts/choose_photographs.py PHOTOS TARGET [--held-back FILE] [--else-every N] [--only-held-back]
        [--size 640x384] [--softness PIXELS] [--defocus PIXELS] [--seed N]

PHOTOS is searched with all its subfolders. If a folder has a CREDITS.tsv (columns file, licence, tier), photographs
under GPL or LGPL are left out, and those of tier B, which show some compression, are halved in size. Photographs that
are too small for frames of --size are joined side by side in one picture. With --softness or --defocus, each picture is
made soft, as by a poor lens, and one in three is also out of focus. TARGET is written whole or not at all.
"""

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.commands.argument_types import number, picture_size, whole_number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.whole_files import folder_written_whole
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.synthesis.clip_rendering import LEAST_SIDE, SCALE
from pdan_plugin.synthesis.moving_scene import least_picture_size, softened
from pdan_plugin.synthesis.photographs import Photograph, photographs_in

CREDITS = 'CREDITS.tsv'


def credits_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of a folder's CREDITS.tsv by file name; empty if there is no such file.

    Raises:
        RequestError: The file cannot be read, or lacks a column.
    """
    path = folder / CREDITS
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'{path}: cannot be read as UTF-8 ({error}); save it in this encoding') from error
    reader = csv.DictReader(text.splitlines(), delimiter='\t', restval='')
    missing = {'file', 'licence', 'tier'} - set(reader.fieldnames or ())
    if missing:
        raise RequestError(f'{path}: no column {", ".join(sorted(missing))}; expected file, licence and tier')
    return {row['file']: row for row in reader}


def names_in(path: Path) -> set[str]:
    """The names in a list, one per line; lines that begin with # are comments.

    Raises:
        RequestError: The list cannot be read.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'{path}: cannot be read as a list of file names ({error})') from error
    return {line.strip() for line in lines if line.strip() and not line.startswith('#')}


def chosen(
    photos: Path, held_back: set[str], else_every: int | None, only_held_back: bool
) -> list[tuple[Photograph, bool]]:
    """The photographs to train on, or those held back, each with whether it is to be halved.

    Args:
        photos: The folder of all photographs.
        held_back: Names of photographs that are not trained on.
        else_every: If none of these names is in the folder, every such photograph is held back. None: this is an error.
        only_held_back: Whether those that are held back are chosen.

    Raises:
        RequestError: There are none, or a name to hold back is not a photograph here.
    """
    found = photographs_in(photos, read_as_shown)
    strangers = held_back - {photograph.path.name for photograph in found}
    if else_every is not None and strangers == held_back:
        held_back = {photograph.path.name for photograph in found[::else_every]}
    elif strangers:
        raise RequestError(f'{photos}: there is no {", ".join(sorted(strangers))} to hold back')
    rows = {folder: credits_of(folder) for folder in {photograph.path.parent for photograph in found}}
    kept = []
    for photograph in found:
        row = rows[photograph.path.parent].get(photograph.path.name, {})
        is_held_back = photograph.path.name in held_back
        if is_held_back if only_held_back else not is_held_back and 'GPL' not in row.get('licence', ''):
            kept.append((photograph, row.get('tier') == 'B'))
    if not kept:
        raise RequestError(f'{photos}: every photograph is held back or under GPL or LGPL')
    return kept


def collages(pictures: Sequence[np.ndarray], least: tuple[int, int]) -> list[np.ndarray]:
    """Joins small pictures side by side, in enough rows and columns for ``least`` (width, height).

    Pictures of similar shape share a collage; each is cropped around its middle to the smallest of them. If too few are
    left for the last collage, its pictures are repeated, mirrored.
    """
    rest = sorted(pictures, key=lambda picture: (picture.shape[1] / picture.shape[0], picture.shape[1]))
    made = []
    while rest:
        columns, rows = -(-least[0] // rest[0].shape[1]), -(-least[1] // rest[0].shape[0])
        group, rest = rest[: columns * rows], rest[columns * rows :]
        width, height = min(each.shape[1] for each in group), min(each.shape[0] for each in group)
        columns, rows = -(-least[0] // width), -(-least[1] // height)
        group += [np.ascontiguousarray(each[:, ::-1]) for each in group]
        cells = [_middle(group[cell % len(group)], width, height) for cell in range(columns * rows)]
        made.append(np.vstack([np.hstack(cells[row * columns : (row + 1) * columns]) for row in range(rows)]))
    return made


def _middle(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def choose(args: argparse.Namespace) -> None:
    """Writes the chosen photographs and collages.

    Raises:
        RequestError: The request cannot be carried out; nothing has been written.
    """
    if args.target.exists():
        raise RequestError(f'{args.target} exists already; remove it to choose the photographs again')
    least = least_picture_size(args.size)
    held_back = names_in(args.held_back) if args.held_back else set()
    photographs = chosen(args.photos, held_back, args.else_every, args.only_held_back)
    rng = np.random.default_rng(args.seed)
    is_soft = args.softness > 0 or args.defocus > 0
    small: list[np.ndarray] = []
    sources: dict[str, Path] = {}
    with folder_written_whole(args.target) as folder:
        for photograph, is_halved in photographs:
            picture = photograph.read()
            if is_halved:
                size = max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            if picture.shape[1] < least[0] or picture.shape[0] < least[1]:
                small.append(picture)
                continue
            name = f'{photograph.path.stem}.png' if is_halved or is_soft else photograph.path.name
            other = sources.setdefault(name, photograph.path)
            if other != photograph.path:
                raise RequestError(f'{other} and {photograph.path} would both become {name}; rename one of them')
            if is_soft:
                picture = softened(picture, rng, args.softness, args.defocus)
            if is_halved or is_soft:
                _write(folder / name, picture)
            else:
                shutil.copyfile(photograph.path, folder / name)
        joined = collages(small, least)
        free = (name for index in count() if (name := f'collage_{index:02d}.png') not in sources)
        for name, picture in zip(free, joined, strict=False):
            if is_soft:
                picture = softened(picture, rng, args.softness, args.defocus)
            _write(folder / name, picture)
    print(f'{args.target}: {len(sources)} photographs, and {len(small)} small ones in {len(joined)} pictures')


def _write(path: Path, picture: np.ndarray) -> None:
    # encoded in memory, because OpenCV crashes for a path that is not UTF-8
    _, content = cv2.imencode('.png', picture)
    with refusing_unwritable(path):
        path.write_bytes(content.tobytes())


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photos', metavar='PHOTOS', type=Path, help='a folder of photographs')
    parser.add_argument('target', metavar='TARGET', type=Path, help='the folder to make')
    parser.add_argument('--held-back', type=Path, metavar='FILE', help='names of photographs not to be trained on')
    parser.add_argument(
        '--else-every',
        type=whole_number(2),
        metavar='N',
        help='if none of the names in --held-back is in PHOTOS, hold every Nth photograph back',
    )
    parser.add_argument('--only-held-back', action='store_true', help='choose only those of --held-back, for scoring')
    parser.add_argument(
        '--size',
        type=picture_size(LEAST_SIDE, multiple_of=SCALE),
        default=(640, 384),
        metavar='WxH',
        help='size of a frame of the clips (default: 640x384)',
    )
    parser.add_argument(
        '--softness',
        type=number(0, 8),
        default=0.0,
        metavar='PIXELS',
        help="the largest standard deviation of the lens's blur, drawn for each picture from 0 to this (default: 0)",
    )
    parser.add_argument(
        '--defocus',
        type=number(0, 8),
        default=0.0,
        metavar='PIXELS',
        help='the largest radius out of focus, drawn from 0 to this for one picture in three (default: 0)',
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, metavar='N', help='seed of --softness and --defocus (default: 0)'
    )
    return parser


@ends_script(restartable=True)
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    if args.only_held_back and args.held_back is None:
        arguments().error('--only-held-back needs --held-back FILE')
    if args.else_every is not None and args.held_back is None:
        arguments().error('--else-every needs --held-back FILE')
    choose(args)


if __name__ == '__main__':
    sys.exit(main())
