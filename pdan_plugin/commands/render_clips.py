"""Renders clips in REDS's layout from photographs: a moving camera, moving objects, blur averaged in linear light.

    python scripts/render_clips.py PHOTOS TARGET [--clips 14] [--val-clips 4] [--frames 20] [--size 320x192]

PHOTOS is a folder of photographs, or the word skimage for those that scikit-image ships. Training and validation never
share a photograph. After an interruption, the same command continues.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pdan_plugin.commands.argument_types import number, picture_size, share, whole_number
from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.data import reds_layout
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.synthesis import clip_rendering, photographs
from pdan_plugin.synthesis.scene_conditions import Shares


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photos', metavar='PHOTOS', help='a folder of photographs, or the word skimage')
    parser.add_argument('target', metavar='TARGET', type=Path, help='the folder to render into')
    number_of_clips = whole_number(0, 1000)  # three digits name a clip in REDS
    parser.add_argument('--clips', type=number_of_clips, default=14, help='training clips (default: %(default)s)')
    parser.add_argument('--val-clips', type=number_of_clips, default=4, help='validation clips (default: %(default)s)')
    parser.add_argument('--frames', type=whole_number(1), default=20, help='frames per clip (default: %(default)s)')
    parser.add_argument('--val-frames', type=whole_number(1), help='frames per validation clip (default: as --frames)')
    parser.add_argument(
        '--size',
        type=picture_size(clip_rendering.LEAST_SIDE, multiple_of=clip_rendering.SCALE),
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
        ('stills', "clips of still pictures: no motion, no softness, exactly the photographs' pixels"),
        ('still-camera', 'of the other clips, those with a resting camera and moving objects'),
        ('sharp', 'of the other clips, those without --softness and --defocus'),
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
    return parser


def clip_folders(target: Path, split: str, number: int) -> clip_rendering.ClipFolders:
    """A clip's folders in REDS's layout."""

    def place(kind: reds_layout.Kind) -> Path:
        return target / split / reds_layout.set_name(split, kind) / kind.inner / f'{number:03d}'

    return clip_rendering.ClipFolders(
        place(reds_layout.SHARP), place(reds_layout.BLUR_BICUBIC), place(reds_layout.SHARP_BICUBIC)
    )


def render(args: argparse.Namespace) -> None:
    """Renders the missing clips.

    Raises:
        RequestError: The request cannot be carried out; nothing has been rendered.
    """
    shares = Shares(args.stills, args.still_camera, args.sharp, args.dark, args.bright)
    counts = {'train': args.clips, 'val': args.val_clips}
    frames = {'train': args.frames, 'val': args.val_frames or args.frames}
    if args.photos == 'skimage':
        parts = photographs.skimage_photographs()
    else:
        found = photographs.photographs_in(Path(args.photos), read_as_shown)
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
        f'{disk_in_words(needed)} of {disk_in_words(free)} free.'
    )
    if needed > free:
        raise RequestError(
            f'{args.target}: {disk_in_words(needed)} may be needed, {disk_in_words(free)} are free; '
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
    """Exit status: see `ends_script`."""
    args = arguments().parse_args(words)
    if args.clips + args.val_clips == 0:
        arguments().error('there is nothing to render: --clips 0 --val-clips 0')
    if args.dark + args.bright > 1:
        arguments().error(f'--dark {args.dark} and --bright {args.bright} are above 1 together')
    render(args)


if __name__ == '__main__':
    sys.exit(main())
