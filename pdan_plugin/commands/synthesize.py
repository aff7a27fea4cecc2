"""`basicsr synthesize`: makes blurred pairs for training from sharp clips."""

from __future__ import annotations

import argparse

from pdan_plugin.commands.argument_types import file_path, number, path_word, refuse_absent, whole_number
from pdan_plugin.commands.subcommand_parser import SubcommandParser
from pdan_plugin.errors import RequestError

CONTINUES = True

DESCRIPTION = """\
Makes blurred pairs for training from sharp clips: interpolates, averages in linear light, downsamples 4x.

    basicsr synthesize SOURCE TARGET
    basicsr synthesize SOURCE TARGET --shard K/N     on N machines, or as a slurm array
    basicsr synthesize TARGET --merge                when all of them are done

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

# As in `synthesis.frame_interpolation`, which takes long to import; so are the defaults in the help texts.
INTERPOLATORS = ('flow', 'rife', 'sepconv')
STRIDE = 5
_OF_THE_CALL = ('workers', 'shard', 'skip_short')
_OF_THE_WINDOW = {'factor': 'factor', 'window': 'length'}
_SETTINGS = ('interpolator', 'weights', 'device', 'stride', 'phases', 'response', 'cut_threshold', 'split', 'codec')


def add_arguments(parser: SubcommandParser) -> None:
    """Adds the arguments; those that are not given are missing in the parsed result."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.argument_default = argparse.SUPPRESS
    parser.usage = '%(prog)s SOURCE TARGET [options]   or   %(prog)s TARGET --merge'
    parser.intermixes = True
    parser.add_argument(
        'source', type=path_word, metavar='SOURCE', nargs='?', help='sharp clips; left out with --merge'
    )
    parser.add_argument(
        'target', type=path_word, metavar='TARGET', help='the folder for the stores, such as datasets/synthesised'
    )
    parser.add_argument(
        '--interpolator',
        choices=INTERPOLATORS,
        help='interpolation method (default: flow)',
    )
    parser.add_argument(
        '--weights', type=file_path, metavar='FILE', help="the interpolator's weights, if it needs a file"
    )
    parser.add_argument('--device', help="the interpolator's device, such as cuda (default: cpu)")
    parser.add_argument(
        '--factor',
        type=whole_number(1),
        metavar='N',
        help='interpolation makes N times as many frames (default: 16)',
    )
    parser.add_argument(
        '--window',
        type=_window,
        metavar='N',
        help='number of sub-frames averaged, odd (default: 65)',
    )
    parser.add_argument(
        '--stride', type=whole_number(1), metavar='N', help='source frames between two windows (default: 5)'
    )
    parser.add_argument(
        '--phases',
        type=whole_number(1),
        metavar='N',
        help='windows begin at the first N source frames of every stride (default: 1; the paper: 3)',
    )
    parser.add_argument(
        '--response',
        metavar='NAME|FILE',
        help='camera response: linear, srgb, gamma, or a .npy table (default: srgb)',
    )
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument(
        '--cut-threshold',
        type=_threshold,
        metavar='X',
        help='0 to 1: a scene cut leaves more than this share of a frame unmatched (default: 0.45)',
    )
    cuts.add_argument('--no-cuts', action='store_true', help='do not look for scene cuts')
    parser.add_argument('--skip-short', action='store_true', help='leave out clips that are shorter than a window')
    parser.add_argument('--split', choices=['train', 'val'], help="split in the stores' names (default: train)")
    parser.add_argument(
        '--codec',
        choices=['bmp', 'png'],
        help='codec of the stores: bmp is read much faster, png takes half the space (default: bmp)',
    )
    parser.add_argument(
        '--workers',
        type=whole_number(1),
        metavar='N',
        help='processes (default: one per core; at most 4 with another --device)',
    )
    parser.add_argument(
        '--shard', type=_shard, metavar='K/N', help='make the K-th of N parts, into TARGET/shard_K_of_N (K from 1)'
    )
    parser.add_argument('--merge', action='store_true', help='make the stores from the finished parts in TARGET')


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks which arguments go together, and that the source exists.

    Raises:
        RequestError: They do not.
    """
    given = set(vars(arguments))
    if 'merge' in given:
        further = given & {'source', 'no_cuts', *_OF_THE_CALL, *_OF_THE_WINDOW, *_SETTINGS}
        if further:
            raise RequestError(f'synthesize: --merge takes only TARGET; leave out {", ".join(sorted(further))}')
    elif 'source' not in given:
        raise RequestError('synthesize: SOURCE and TARGET are needed (only TARGET with --merge)')
    stride = getattr(arguments, 'stride', STRIDE)
    if getattr(arguments, 'phases', 1) > stride:
        raise RequestError(
            f'phases must lie between 1 and the stride ({stride}), got {arguments.phases}: more would repeat the first'
        )
    if 'source' in given:
        refuse_absent(
            "no such file or folder; give a video, or a folder of videos, of numbered frames or of REDS's train_orig",
            arguments.source,
        )


def run(arguments: argparse.Namespace) -> int:
    """Makes the stores, or merges finished parts, and returns the exit status.

    Raises:
        RequestError: See `synthesize_blur` and `merge_shards`.
    """
    from pdan_plugin.preparation.blur_synthesis import synthesize_blur
    from pdan_plugin.preparation.synthesis_merge import merge_shards
    from pdan_plugin.preparation.synthesis_plan import Settings
    from pdan_plugin.synthesis.motion_blur import SubframeWindow

    given = vars(arguments)
    if 'merge' in given:
        merge_shards(arguments.target)
        return 0
    window = SubframeWindow(**{field: given[word] for word, field in _OF_THE_WINDOW.items() if word in given})
    chosen = {word: given[word] for word in _SETTINGS if word in given}
    if 'no_cuts' in given:
        chosen['cut_threshold'] = None
    of_the_call = {word: given[word] for word in _OF_THE_CALL if word in given}
    synthesize_blur(arguments.source, arguments.target, Settings(window=window, **chosen), **of_the_call)
    return 0


def _shard(text: str) -> tuple[int, int]:
    """``3/16`` to (3, 16)."""
    try:
        part_number, count = (int(part) for part in text.split('/'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not K/N, such as 1/16') from None
    if not 1 <= part_number <= count:
        raise argparse.ArgumentTypeError(f'{text!r}: K must lie between 1 and N')
    return part_number, count


def _window(text: str) -> int:
    """An odd number of sub-frames, so that the ground truth is in their middle."""
    length = whole_number(3)(text)
    if length % 2 == 0:
        raise argparse.ArgumentTypeError(f'{text!r} must be odd, so that the ground truth is in its middle')
    return length


def _threshold(text: str) -> float:
    share = number(0, 1)(text)
    if share in (0, 1):
        raise argparse.ArgumentTypeError(f'{text!r}: expected a number between 0 and 1')
    return share
