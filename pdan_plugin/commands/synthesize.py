#!/usr/bin/env python
"""Makes blurred pairs for training from sharp clips: interpolates, averages in linear light, downsamples 4x.

    python scripts/synthesize_blur.py SOURCE TARGET
    python scripts/synthesize_blur.py SOURCE TARGET --shard K/N     on N machines, or as a slurm array
    python scripts/synthesize_blur.py TARGET --merge                when all of them are done

SOURCE is a video, a folder of videos, a folder of numbered frames (PNG or JPEG), a folder of such folders, or REDS's
train_orig (unpacked, or the folder of its zips, which are read in place). TARGET gets the stores that training reads
(train_sharp.lmdb, train_blur_bicubic_x4.lmdb, train_sharp_bicubic_x4.lmdb) and synthesis.json, the record of what was
done.

The defaults are those of REDS's authors. Interpolation makes 16 times as many frames. 65 sub-frames (five source
frames) are averaged in linear light around every fifth source frame, the ground truth; 120 fps become 24 fps. The
paper's 72,000 pairs are three times REDS's 24,000: --phases 3. With it a clip of 500 frames has 298 whole windows, so
REDS's 240 clips give 71,520.

A frame's name, CLIP/NUMBER, is that of its ground truth and does not depend on stride, phases or window. Windows that
touch a scene cut are left out, and the record lists them. After an interruption, the same command continues.
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
    """The command line; arguments that are not given are missing in the parsed result."""
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
        help=f'interpolation method (default: {default.interpolator})',
    )
    parser.add_argument('--weights', type=Path, metavar='FILE', help="the interpolator's weights, if it needs a file")
    parser.add_argument('--device', help=f"the interpolator's device, such as cuda (default: {default.device})")
    parser.add_argument(
        '--factor',
        type=int,
        metavar='N',
        help=f'interpolation makes N times as many frames (default: {default.window.factor})',
    )
    parser.add_argument(
        '--window',
        type=int,
        metavar='N',
        help=f'number of sub-frames averaged, odd (default: {default.window.length})',
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
        help=f'camera response: linear, srgb, gamma, or a .npy table (default: {default.response})',
    )
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument(
        '--cut-threshold',
        type=float,
        metavar='X',
        help=f'0 to 1: a scene cut leaves more than this share of a frame unmatched (default: {CUT_THRESHOLD})',
    )
    cuts.add_argument('--no-cuts', action='store_true', help='do not look for scene cuts')
    parser.add_argument('--skip-short', action='store_true', help='leave out clips that are shorter than a window')
    parser.add_argument('--split', choices=sorted(CLIPS), help=f"split in the stores' names (default: {default.split})")
    parser.add_argument(
        '--codec',
        choices=['bmp', 'png'],
        help='codec of the stores: bmp is read much faster, png takes half the space (default: bmp)',
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes (default: one per core; at most 4 with another --device)'
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
            parser.error(f'--merge takes only TARGET; leave out {", ".join(sorted(given))}')
        merge_shards(target)
        return
    if 'source' not in given:
        parser.error('SOURCE and TARGET are needed (only TARGET with --merge)')
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
