"""Renders REDS-shaped clips from photographs: a moving camera, moving objects, blur averaged in linear light.

    python scripts/render_clips.py PHOTOS TARGET [--clips 14] [--val-clips 4] [--frames 20] [--size 320x192]

PHOTOS is a folder of photographs, or the word skimage for those that scikit-image ships. Training and validation never
share a photograph. Interrupted, it goes on where it stopped when it is called again.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.data import reds_layout
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.synthesis import clip_rendering, photographs
from pdan_plugin.synthesis.scene_conditions import Shares


def pixels(text: str) -> float:
    """A length of at most 8 pixels."""
    number = float(text)
    if not 0 <= number <= 8:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 8')
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not between 0 and 1')
    return number


def whole_number(least: int, most: int = sys.maxsize) -> Callable[[str], int]:
    """An argument type: a whole number within bounds."""

    def convert(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f'{text} is not between {least} and {most}')
        return number

    convert.__name__ = 'whole number'
    return convert


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photos', metavar='PHOTOS', help='a folder of photographs, or the word skimage')
    parser.add_argument('target', metavar='TARGET', type=Path, help='the folder to render into')
    number_of_clips = whole_number(0, 1000)  # three digits name a clip in REDS
    parser.add_argument('--clips', type=number_of_clips, default=14, help='training clips (default: %(default)s)')
    parser.add_argument('--val-clips', type=number_of_clips, default=4, help='validation clips (default: %(default)s)')
    parser.add_argument('--frames', type=whole_number(1), default=20, help='frames a clip (default: %(default)s)')
    parser.add_argument('--val-frames', type=whole_number(1), help='frames a validation clip (default: as --frames)')
    parser.add_argument(
        '--size',
        type=clip_rendering.frame_size,
        default=(320, 192),
        metavar='WxH',
        help='of a sharp frame, multiples of 4; REDS itself: 1280x720 (default: 320x192)',
    )
    parser.add_argument(
        '--softness',
        type=pixels,
        default=0.0,
        metavar='PIXELS',
        help='the most that the camera itself blurs, drawn for each clip from 0 to this standard deviation; '
        'photographs made smaller are sharper than video, for which 1.25 is about right (default: %(default)s)',
    )
    parser.add_argument(
        '--defocus',
        type=pixels,
        default=0.0,
        metavar='PIXELS',
        help='the most that things are out of focus in the sharp frames too, so that this is not learned to be undone: '
        'for about one background or object in three, a radius drawn from 0 to this (default: %(default)s)',
    )
    for name, meaning in (
        ('stills', 'clips whose frames are still pictures: no motion, no softness, the very pixels of the photographs'),
        ('still-camera', 'of the other clips, those whose camera rests while things move in front of it'),
        ('sharp', 'of the other clips, those without --softness and --defocus'),
        ('dark', 'clips with a tenth to four tenths of the light'),
        ('bright', 'clips with 1.4 to 2.5 times the light, where highlights are lost'),
    ):
        parser.add_argument(
            f'--{name}', type=share, default=0.0, metavar='SHARE', help=f'{meaning} (default: %(default)s)'
        )
    parser.add_argument('--seed', type=whole_number(0), default=0, help='of every draw (default: %(default)s)')
    parser.add_argument(
        '--workers',
        type=whole_number(1),
        default=usable_cores(),
        help='processes; does not change the pictures (default: one a core, here %(default)s)',
    )
    return parser


def clip_folders(target: Path, split: str, number: int) -> clip_rendering.ClipFolders:
    """A clip's places in REDS's own layout."""

    def place(kind: reds_layout.Kind) -> Path:
        return target / split / reds_layout.set_name(split, kind) / kind.inner / f'{number:03d}'

    return clip_rendering.ClipFolders(
        place(reds_layout.SHARP), place(reds_layout.BLUR_BICUBIC), place(reds_layout.SHARP_BICUBIC)
    )


def render(args: argparse.Namespace) -> None:
    """What the command line asks for.

    Raises:
        RequestError: It cannot be done; nothing has been rendered.
    """
    shares = Shares(args.stills, args.still_camera, args.sharp, args.dark, args.bright)
    counts = {'train': args.clips, 'val': args.val_clips}
    frames = {'train': args.frames, 'val': args.val_frames or args.frames}
    if args.photos == 'skimage':
        parts = photographs.skimage_photographs()
    else:
        found = photographs.photographs_in(Path(args.photos))
        if args.clips and args.val_clips:
            parts = photographs.part(found, args.seed)
        else:
            parts = (found, []) if args.clips else ([], found)
    pictures = dict(zip(counts, parts, strict=True))
    clips = [
        clip
        for split, count in counts.items()
        for clip in clip_rendering.plan_clips(
            split,
            pictures[split],
            [clip_folders(args.target, split, number) for number in range(count)],
            size=args.size,
            frames=frames[split],
            seed=args.seed,
            softness=args.softness,
            defocus=args.defocus,
            shares=shares,
        )
    ]
    photographs.check_sizes([photo for split, count in counts.items() if count for photo in pictures[split]], args.size)
    clip_rendering.check_record(
        args.target,
        pictures,
        size=args.size,
        frames=frames,
        seed=args.seed,
        softness=args.softness,
        defocus=args.defocus,
        shares=shares,
    )

    missing = [clip for clip in clips if not clip.is_finished()]
    needed, free = clip_rendering.space_needed(missing), shutil.disk_usage(args.target).free
    print(
        f'{len(clips) - len(missing)} of {len(clips)} clips are there; the others take at most '
        f'{needed / 1e6:.0f} MB of {free / 1e6:.0f} MB free.'
    )
    if needed > free:
        raise RequestError(
            f'{args.target}: {needed / 1e6:.0f} MB may be needed, {free / 1e6:.0f} MB are free; '
            'free some, or ask for fewer clips or smaller frames.'
        )
    if missing:
        workers = min(args.workers, len(missing))
        done = clip_rendering.render_clips(missing, workers)
        for _ in tqdm(done, total=len(missing), unit='clip', desc='rendering'):
            pass
    splits = ' '.join(split for split, count in counts.items() if count)
    print(f'Next: python scripts/prepare_reds.py {shlex.quote(str(args.target))} STORES --splits {splits}')


@ends_script
def main(words: Sequence[str] | None = None) -> None:
    """What the command line asks for, and how it ends."""
    args = arguments().parse_args(words)
    if args.clips + args.val_clips == 0:
        arguments().error('no clips are asked for: --clips 0 --val-clips 0')
    if args.dark + args.bright > 1:
        arguments().error(f'--dark {args.dark} and --bright {args.bright} are more than all clips together')
    render(args)


if __name__ == '__main__':
    sys.exit(main())
