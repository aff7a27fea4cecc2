"""`basicsr prepare-pairs`: makes the folders that training reads from your own pictures."""

from __future__ import annotations

import argparse
import json
import os
import shlex

from pdan_plugin.commands.argument_types import path_word, refuse_absent, whole_number

DESCRIPTION = """\
Makes the folders that training reads from your own pictures.

    basicsr prepare-pairs PHOTOS datasets/own_pairs                  sharp pictures alone; LQ is computed
    basicsr prepare-pairs SHARP datasets/own_pairs --lq BLURRED      two folders of pictures

TARGET gets train/ and val/, each with gt/ and lq/: PNG pictures of the same names. LQ is computed from GT by MATLAB's
bicubic. A part of the pairs is held out for validation. The command may be interrupted: the same command continues.
Then train with a copy of the option file own_pairs, which reads datasets/own_pairs.
"""


_TARGET, _SCALE = 'datasets/own_pairs', 4  # of the option file own_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folders and how they are read."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('gt', type=path_word, metavar='GT', help='a folder of sharp pictures, read with its subfolders')
    parser.add_argument(
        'target', type=path_word, metavar='TARGET', help='the folder to make, such as datasets/own_pairs'
    )
    parser.add_argument(
        '--lq',
        type=path_word,
        metavar='FOLDER',
        help='the degraded pictures, with the names of the sharp ones (default: computed)',
    )
    parser.add_argument(
        '--scale',
        type=whole_number(1, 16),
        default=4,
        metavar='N',
        help='GT size divided by LQ size; 1 only with --lq (default: 4)',
    )
    parser.add_argument(
        '--validation',
        type=whole_number(0),
        metavar='COUNT',
        help='pairs held out for validation; 0 if other pictures validate (default: a tenth, at most 100)',
    )
    parser.add_argument(
        '--filename-tmpl',
        default='{}',
        metavar='TEMPLATE',
        help="name of an LQ picture for the name of its GT picture, such as '{}x4' (default: '{}')",
    )
    parser.add_argument(
        '--sub-images',
        nargs=2,
        type=int,
        metavar=('SIZE', 'STEP'),
        help=(
            'cut training pairs into squares of SIZE GT pixels every STEP pixels, both multiples of the scale (usual: '
            '480 240): large pictures are read several times faster'
        ),
    )
    parser.add_argument('--workers', type=whole_number(1), metavar='N', help='threads (default: the cores, 8 at most)')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks that the folders exist, before anything slow is imported.

    Raises:
        RequestError: One does not.
    """
    refuse_absent('does not exist; expected a folder of pictures', arguments.gt, name='GT')
    if arguments.lq is not None:
        refuse_absent('does not exist; expected a folder of pictures', arguments.lq, name='LQ')


def run(arguments: argparse.Namespace) -> int:
    """Makes the folders and returns the exit status.

    Raises:
        RequestError, WorkError: See `prepare_pairs`.
    """
    from pdan_plugin.preparation.pair_preparation import prepare_pairs

    prepare_pairs(
        arguments.gt,
        arguments.target,
        lq=arguments.lq,
        scale=arguments.scale,
        validation=arguments.validation,
        filename_tmpl=arguments.filename_tmpl,
        sub_images=arguments.sub_images,
        workers=arguments.workers,
    )
    print(f'Next: {_next_command(arguments.target, arguments.scale, arguments.validation != 0)}', flush=True)
    return 0


def _as_yaml(path: str) -> str:
    """The path as --force_yml reads it: quoted if YAML would read something else, such as a comment."""
    import yaml

    try:
        is_plain = yaml.safe_load(path) == path
    except yaml.YAMLError:
        is_plain = False
    return path if is_plain else json.dumps(path, ensure_ascii=False)


def _next_command(target: str, scale: int, has_validation: bool) -> str:
    """The shipped option file is for datasets/own_pairs at scale 4 with a validation set, and so is its network."""
    roots = [
        (f'datasets:{phase}:dataroot_{kind}', _as_yaml(os.path.join(target, phase, kind)))
        for phase in ('train', *(['val'] if has_validation else []))
        for kind in ('gt', 'lq')
    ]
    if scale != _SCALE or not has_validation:
        changes = [f'{": ".join(key.split(":"))}: {path}' for key, path in roots]
        if scale != _SCALE:
            changes = [f'scale: {scale}', f'network_g: a network that enlarges {scale} times', *changes]
        if not has_validation:
            changes.append('datasets: val: your validation set')
        return '\n  '.join(['basicsr options own_pairs > my.yml, and change in my.yml', *changes])
    is_usual = os.path.normpath(target) == os.path.normpath(_TARGET)
    given = [] if is_usual else ['--force_yml', *(f'{key}={path}' for key, path in roots)]
    return shlex.join(['basicsr', 'check', '-opt', 'own_pairs', *given])
