#!/usr/bin/env python
"""Prints how much better than bicubic this project and other programs enlarge everyday pictures.

    python scripts/compare_programs.py PHOTOS --json docs/other_programs.json   repeats this project's row alone
    python scripts/compare_programs.py PHOTOS --weights pdan_small my.safetensors
    python scripts/compare_programs.py PHOTOS --weights --program 'waifu2x=python scripts/everyday/programs/waifu2x.py'

Five photographs of the folder PHOTOS are cut to 1280x720, blurred by a straight motion of 12 pixels or not, made 4x
smaller, given noise (sigma 4) or not, and stored as PNG or as JPEG of quality 75: eight kinds. A program is any command
that can be called as COMMAND INPUT_FOLDER OUTPUT_FOLDER and writes STEM.png, 4x as large, for each picture. The table
has the gain over OpenCV's bicubic in dB (PSNR, RGB, mean of the photographs). `scripts/everyday/programs/` has such
commands for packages that contain weights; run each with the Python of an environment where its package is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from everyday.scores import Restore, by_command, by_this_project, score_programs, table
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.errors import RequestError, failing_unwritable, some_of
from pdan_plugin.files.whole_files import write_whole

# every fourth of options/pdan_small/held_back.txt: not used to train the weights in the package
PHOTOGRAPHS = (
    'lxqt-flowers.jpg',
    'palapeli-european-honey-bee.jpg',
    'psychopy-panimg-park.jpg',
    'budgie-casa-mila.jpg',
    'gcompris-squirrel.jpg',
)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photos', type=Path, metavar='PHOTOS', help='the folder of the photographs')
    parser.add_argument(
        '--photographs',
        nargs='+',
        default=PHOTOGRAPHS,
        metavar='FILE',
        help='other files of PHOTOS (default: the five)',
    )
    parser.add_argument(
        '--weights',
        nargs='*',
        default=['pdan_small'],
        metavar='NAME_OR_FILE',
        help='weights for `basicsr restore`, a row each; nothing after it: none (default: pdan_small)',
    )
    parser.add_argument(
        '--program',
        action='append',
        default=[],
        metavar='NAME=COMMAND',
        help='another program and the name of its row; can be repeated',
    )
    parser.add_argument(
        '--json',
        type=Path,
        metavar='FILE',
        help='also write the result there; rows of other programs in this file are kept and printed',
    )
    return parser


def programs_of(weights: Sequence[str], commands: Sequence[str]) -> dict[str, Restore]:
    """By the names of their rows.

    Raises:
        RequestError: A command has no name, two rows have the same name, or there are none.
    """
    programs: dict[str, Restore] = {}
    for name in weights:
        programs[name] = by_this_project(name)
    for text in commands:
        name, equals, command = text.partition('=')
        if not (name and equals and command.strip()):
            raise RequestError(f'--program {text}: expected NAME=COMMAND')
        programs[name] = by_command(name, command)
    if len(programs) < len(weights) + len(commands):
        raise RequestError('--weights, --program: two rows have the same name')
    if not programs:
        raise RequestError('nothing to compare: give --weights or --program')
    return programs


def files_of(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Raises a RequestError if the folder lacks one of the files."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise RequestError(f'{folder}: there is no {some_of(missing)}; give other files with --photographs')
    return {name: folder / name for name in names}


@ends_script(restartable=False)
def main(words: Sequence[str] | None = None) -> None:
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    programs = programs_of(args.weights, args.program)
    result = score_programs(files_of(args.photos, args.photographs), programs, args.json)
    if args.json is not None:
        with failing_unwritable(args.json):
            write_whole(args.json, json.dumps(result, indent=1) + '\n')
    print(table(result))


if __name__ == '__main__':
    sys.exit(main())
