"""`basicsr render-clips`: renders clips in REDS's layout from photographs."""

from __future__ import annotations

import argparse
import sys

from pdan_plugin.commands.argument_types import file_path, number, picture_size, refuse_absent, share, whole_number
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import usable_cores

CONTINUES = True

DESCRIPTION = """\
Renders clips in REDS's layout from photographs: a moving camera, moving objects, blur averaged in linear light.

    basicsr render-clips PHOTOS TARGET [--clips 14] [--val-clips 4] [--frames 20] [--size 320x192]

PHOTOS is a folder of photographs, or the word skimage for those that scikit-image ships. Training and validation never
share a photograph. After an interruption, the same command continues.
"""

LEAST_SIDE, SCALE = 32, 4  # as in `synthesis.clip_rendering`, which takes long to import


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; the size is parsed to (width, height)."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument('photos', metavar='PHOTOS', help='a folder of photographs, or the word skimage')
    parser.add_argument('target', metavar='TARGET', type=file_path, help='the folder to render into')
    number_of_clips = whole_number(0, 1000)  # three digits name a clip in REDS
    parser.add_argument('--clips', type=number_of_clips, default=14, help='training clips (default: %(default)s)')
    parser.add_argument('--val-clips', type=number_of_clips, default=4, help='validation clips (default: %(default)s)')
    parser.add_argument('--frames', type=whole_number(1), default=20, help='frames per clip (default: %(default)s)')
    parser.add_argument('--val-frames', type=whole_number(1), help='frames per validation clip (default: as --frames)')
    parser.add_argument(
        '--size',
        type=picture_size(LEAST_SIDE, multiple_of=SCALE),
        default=(320, 192),
        metavar='WxH',
        help='size of a sharp frame, multiples of 4; REDS has 1280x720 (default: 320x192)',
    )
    parser.add_argument(
        '--softness',
        type=number(0, 8),
        default=0.0,
        metavar='PIXELS',
        help="largest standard deviation of the camera's own blur, drawn for each clip from 0 to this; photographs "
        'made smaller are sharper than video, and 1.25 makes them about as soft (default: %(default)s)',
    )
    parser.add_argument(
        '--defocus',
        type=number(0, 8),
        default=0.0,
        metavar='PIXELS',
        help='largest out-of-focus radius, drawn from 0 to this for about one background or object in three; the sharp '
        'frames have it too, so a network does not learn to remove it (default: %(default)s)',
    )
    for name, meaning in (
        ('stills', "clips of still pictures: no motion, exactly the photographs' pixels"),
        ('soft-stills', 'these still pictures, those with --softness and --defocus'),
        ('still-camera', 'the other clips, those with a resting camera and moving objects'),
        ('sharp', 'the other clips, those without --softness and --defocus'),
        ('dark', 'clips with 0.1 to 0.4 times the light'),
        ('bright', 'clips with 1.4 to 2.5 times the light, which loses highlights'),
    ):
        parser.add_argument(
            f'--{name}', type=share, default=0.0, metavar='SHARE', help=f'share of {meaning} (default: %(default)s)'
        )
    parser.add_argument('--seed', type=whole_number(0), default=0, help='seed of all draws (default: %(default)s)')
    parser.add_argument(
        '--workers',
        type=whole_number(1),
        default=usable_cores(),
        help='processes; does not change the pictures (default: one per core, here %(default)s)',
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks which arguments go together, and that the photographs exist.

    Raises:
        RequestError: They do not.
    """
    if arguments.clips + arguments.val_clips == 0:
        raise RequestError('there is nothing to render: --clips 0 --val-clips 0')
    if arguments.dark + arguments.bright > 1:
        raise RequestError(f'--dark {arguments.dark} and --bright {arguments.bright} are above 1 together')
    if arguments.soft_stills and not arguments.stills:
        _warn('--soft-stills has no effect without --stills')
    if (arguments.soft_stills or arguments.sharp) and not arguments.softness and not arguments.defocus:
        _warn('--soft-stills and --sharp have no effect without --softness or --defocus')
    if arguments.photos != 'skimage':
        refuse_absent(
            'no such folder. Give a folder of photographs, or the word skimage for those of scikit-image.',
            arguments.photos,
        )


def _warn(text: str) -> None:
    print(f'basicsr render-clips: warning: {text}', file=sys.stderr)


def run(arguments: argparse.Namespace) -> int:
    """Renders the missing clips and returns the exit status.

    Raises:
        RequestError: The request cannot be carried out; nothing has been rendered.
    """
    from pdan_plugin.preparation.rendered_clips import ClipPlan, render_missing
    from pdan_plugin.synthesis.scene_conditions import Shares

    render_missing(
        arguments.photos,
        arguments.target,
        ClipPlan(
            clips={'train': arguments.clips, 'val': arguments.val_clips},
            frames={'train': arguments.frames, 'val': arguments.val_frames or arguments.frames},
            size=arguments.size,
            seed=arguments.seed,
            softness=arguments.softness,
            defocus=arguments.defocus,
            shares=Shares(
                stills=arguments.stills,
                soft_stills=arguments.soft_stills,
                still_camera=arguments.still_camera,
                sharp=arguments.sharp,
                dark=arguments.dark,
                bright=arguments.bright,
            ),
        ),
        workers=arguments.workers,
    )
    return 0
