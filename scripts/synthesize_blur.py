#!/usr/bin/env python
"""Makes blurred pairs for training out of sharp clips: frames interpolated, averaged in light, made 4 times smaller.

    python scripts/synthesize_blur.py SOURCE TARGET
    python scripts/synthesize_blur.py SOURCE TARGET --shard K/N     on N machines, or as a slurm array
    python scripts/synthesize_blur.py TARGET --merge                when all of them are done

SOURCE is a video, a folder of videos, a folder of numbered frames (PNG or JPEG), a folder of such folders, or REDS's
train_orig (unpacked, or the folder of its zips, which are read in place). TARGET gets the stores that training reads
(train_sharp.lmdb, train_blur_bicubic_x4.lmdb, train_sharp_bicubic_x4.lmdb) and synthesis.json, the record of what was
done.

The defaults are those of REDS's authors: 65 sub-frames of x16 frames (five source frames) are averaged in light around
every fifth frame, which is the ground truth; of 120 frames a second that makes 24. The paper's 72,000 pairs are three
times REDS's 24,000: --phases 3. A clip of 500 frames has 298 whole windows then, so REDS's 240 clips give 71,520.

A frame is called CLIP/NUMBER by its ground truth, whatever the stride, the phases or the window. Windows that touch a
scene cut are left out, and the record lists them. It may be interrupted at any moment: the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pdan_plugin.commands.script_end import ends_script
from pdan_plugin.data.reds_layout import CLIPS
from pdan_plugin.preparation.blur_synthesis import synthesize_blur
from pdan_plugin.preparation.synthesis_merge import merge_shards
from pdan_plugin.preparation.synthesis_plan import Settings
from pdan_plugin.synthesis.frame_interpolation import interpolators
from pdan_plugin.synthesis.motion_blur import SubframeWindow
from pdan_plugin.synthesis.scene_cuts import CUT_THRESHOLD


def shard(text: str) -> tuple[int, int]:
    """``3/16`` to (3, 16)."""
    try:
        number, count = (int(part) for part in text.split('/'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not K/N, such as 1/16') from None
    return number, count


def arguments() -> argparse.ArgumentParser:
    """The command line; what was not given is not in its answer."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        usage='%(prog)s SOURCE TARGET [options]   or   %(prog)s TARGET --merge',
    )
    parser.add_argument('source', metavar='SOURCE', nargs='?', help='sharp clips; left out with --merge')
    parser.add_argument('target', metavar='TARGET', help='the folder for the stores, such as datasets/synthesised')
    default = Settings()
    parser.add_argument(
        '--interpolator',
        choices=interpolators(),
        help=f'makes the frames between frames (default: {default.interpolator})',
    )
    parser.add_argument(
        '--weights', type=Path, metavar='FILE', help="the interpolator's weights, where it needs a file"
    )
    parser.add_argument('--device', help=f'the interpolator computes there, such as cuda (default: {default.device})')
    parser.add_argument(
        '--factor',
        type=int,
        metavar='N',
        help=f'frames a second become N times as many (default: {default.window.factor})',
    )
    parser.add_argument(
        '--window',
        type=int,
        metavar='N',
        help=f'of them are averaged, an odd number (default: {default.window.length})',
    )
    parser.add_argument(
        '--stride', type=int, metavar='N', help=f'source frames between two windows (default: {default.stride})'
    )
    parser.add_argument(
        '--phases',
        type=int,
        metavar='N',
        help=f'windows begin at the first N source frames of every stride (default: {default.phases}; the paper: 3)',
    )
    parser.add_argument(
        '--response',
        metavar='NAME|FILE',
        help=f"the camera's: linear, srgb, gamma, or a .npy table (default: {default.response})",
    )
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument(
        '--cut-threshold',
        type=float,
        metavar='X',
        help=f'0 to 1: more of a frame than this cannot be found in the next at a scene cut (default: {CUT_THRESHOLD})',
    )
    cuts.add_argument('--no-cuts', action='store_true', help='look for no scene cuts')
    parser.add_argument('--skip-short', action='store_true', help='leave out clips that are shorter than a window')
    parser.add_argument('--split', choices=sorted(CLIPS), help=f'names the stores (default: {default.split})')
    parser.add_argument(
        '--codec',
        choices=['bmp', 'png'],
        help='of the stores: bmp is read far faster, png takes half the room (default: bmp)',
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes (default: one a core; with another --device 4 at most)'
    )
    parser.add_argument(
        '--shard', type=shard, metavar='K/N', help='make the K-th of N parts, into TARGET/shard_K_of_N (K from 1)'
    )
    parser.add_argument('--merge', action='store_true', help='make the stores from the finished parts in TARGET')
    return parser


@ends_script
def main(words: Sequence[str] | None = None) -> None:
    parser = arguments()
    given = vars(parser.parse_intermixed_args(words))
    target = given.pop('target')
    if given.pop('merge', False):
        if given:
            parser.error(f'--merge reads TARGET alone; leave out {", ".join(sorted(given))}')
        merge_shards(target)
        return
    if 'source' not in given:
        parser.error('SOURCE and TARGET are needed (TARGET alone only with --merge)')
    source = given.pop('source')
    window = SubframeWindow(
        **{field: given.pop(word) for word, field in (('factor', 'factor'), ('window', 'length')) if word in given}
    )
    if given.pop('no_cuts', False):
        given['cut_threshold'] = None
    of_the_call = {word: given.pop(word) for word in ('workers', 'shard', 'skip_short') if word in given}
    synthesize_blur(source, target, Settings(window=window, **given), **of_the_call)


if __name__ == '__main__':
    sys.exit(main())
