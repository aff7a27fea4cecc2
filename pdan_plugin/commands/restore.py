"""`basicsr restore`: restores a picture, a video, or a folder of them with a trained network."""

from __future__ import annotations

import argparse
import os

from pdan_plugin.commands.argument_types import file_path, frame_range, memory_size, number, result_size, whole_number
from pdan_plugin.commands.subcommand_parser import SubcommandParser
from pdan_plugin.errors import RequestError
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.picture_format import FORMATS, PictureFormat
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import CODECS, VideoCoding
from pdan_plugin.option_schema.shipped_options import find_option_file
from pdan_plugin.weights.packaged_weights import DEFAULT, find_weights_file, packaged_weights

PREPARES_TOOLBOX = False  # this package's own networks work without it; `network_section` prepares it for others


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments. Sizes are parsed to bytes, the tile to a number or 'auto'."""
    if isinstance(parser, SubcommandParser):
        parser.advice_on_more = '; INPUT is one file or one folder: give the folder of the files'
    parser.add_argument('input', type=file_path, metavar='INPUT', help='a picture, a video, or a folder of both')
    parser.add_argument(
        '-o',
        '--output',
        type=file_path,
        required=True,
        help='where to write the results: a folder; for one picture or video also a file',
    )
    parser.add_argument(
        '-w',
        '--weights',
        type=file_path,
        metavar='FILE',
        help='the trained weights: net_g_ITER.pth, .safetensors, or the name of weights in this package '
        f'({", ".join(packaged_weights())}; default: {DEFAULT})',
    )
    parser.add_argument(
        '-opt',
        dest='option_file',
        type=file_path,
        metavar='FILE',
        help='the option file the weights were trained with (default: found beside or inside the weights)',
    )
    parser.add_argument(
        '--param-key',
        metavar='KEY',
        help='which weights of a file with several: a key of the file, or the beginning of their names (default: found '
        'by the names of the network, the average if there is one)',
    )
    parser.add_argument(
        '--precision',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
        default='auto',
        help='number format of the network (default: auto, which is bf16 where the processor or GPU computes in it, '
        'and else fp32; it is printed)',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help='compile the network: the first picture of each size takes some ten seconds longer, or minutes if no '
        'block of the network repeats. Try it on a few pictures: in fp32 on a CPU it does not make a PDAN faster',
    )
    parser.add_argument(
        '--tile',
        type=_tile,
        default='auto',
        metavar='auto|N',
        help='largest side of the tiles of large pictures, in pixels of the input (default: auto, chosen by the free '
        'memory)',
    )
    parser.add_argument(
        '--overlap', type=int, metavar='N', help='pixels that tiles share (default: measured for the network)'
    )
    parser.add_argument(
        '--memory',
        type=memory_size,
        metavar='SIZE',
        help='memory that --tile auto may use, such as 4G or 500M (default: four fifths of the free memory)',
    )
    parser.add_argument(
        '--self-ensemble',
        action='store_true',
        help='mean of the results of all eight flips and rotations: a little better, eight times the time',
    )
    parser.add_argument(
        '--local-pooling',
        type=whole_number(1),
        metavar='N',
        help='replace the means that the network takes over the whole picture by means over windows of N pixels of the '
        'input, about the size of the crops it was trained on (default: off)',
    )
    parser.add_argument(
        '--no-cuda-graphs',
        dest='cuda_graphs',
        action='store_false',
        help='on an NVIDIA GPU, launch each operation of the network on its own (default: for sizes that come again, '
        'they are recorded and replayed together, if the results are the same)',
    )
    parser.add_argument(
        '--device',
        default='auto',
        metavar='NAME',
        help='auto, cpu, cuda, cuda:1, mps, xpu ... (default: auto, the first of cuda, mps, xpu that this machine has, '
        'and else cpu)',
    )
    parser.add_argument(
        '--devices',
        metavar='LIST',
        help='several GPUs that share the pictures or frames: 0,1,... or auto for all (default: one device)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace existing results')
    parser.add_argument(
        '--dry-run', action='store_true', help='list the results with their sizes, restore and write nothing'
    )
    _add_result_arguments(parser)


def _add_result_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        'results',
        'The network enlarges by its own scale. For another size its output is resampled by Lanczos, without aliasing, '
        'in the values as they are stored (not in linear light). No result is smaller than its input.',
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument(
        '--scale',
        type=number(1, 64),
        metavar='S',
        help="size of the results, relative to the inputs: 2, 1.5 ... (default: the network's)",
    )
    size.add_argument(
        '--size',
        type=result_size,
        metavar='WxH',
        help='size of the results in pixels: exactly 1920x1080; or 1920x or x1080, which keep the shape of the input',
    )
    group.add_argument(
        '--format',
        choices=tuple(FORMATS),
        help='file format of pictures in a folder of results (default: png); an output that is a file has its ending',
    )
    quality = group.add_mutually_exclusive_group()
    quality.add_argument(
        '--quality',
        type=whole_number(1, 100),
        metavar='Q',
        help='1 to 100, for jpg (default: 97), webp (default: lossless) and avif (default: 90)',
    )
    quality.add_argument(
        '--lossless',
        action='store_true',
        help='write no format that changes values: reject jpg and avif',
    )
    group.add_argument(
        '--codec',
        choices=tuple(CODECS),
        help='codec of videos (default: h264; h265 for videos of more than 8 bits)',
    )
    group.add_argument(
        '--crf',
        type=whole_number(0, 63),
        metavar='N',
        help='constant rate factor of videos: 0 is best and largest; up to 51, av1 63 (default: 14, av1 18)',
    )
    group.add_argument(
        '--preset',
        metavar='NAME',
        help='speed of the encoder: ultrafast ... medium ... placebo for h264 and h265, 0 (slowest) to 13 '
        "for av1 (default: the encoder's)",
    )
    group.add_argument(
        '--frames',
        type=frame_range,
        metavar='A:B',
        help='part of each video, with its sound: frames A up to but without B, from 0; 100: and :48 are allowed',
    )
    group.add_argument(
        '--suffix', default='', metavar='TEXT', help='added to the names of the results: _x4 writes photo_x4.png'
    )


def check_arguments(arguments: argparse.Namespace) -> None:
    """Checks the settings of the results, and that the files exist, before anything slow is imported.

    Raises:
        RequestError: Settings contradict each other, or a file does not exist.
    """
    _result_settings(arguments).check()
    if not os.path.exists(arguments.input):  # also false for a name that is too long
        raise RequestError(f'{arguments.input}: no such picture, video or folder.')
    weights, _ = find_weights_file(arguments.weights)
    if not os.path.exists(weights):
        raise RequestError(f'{weights}: no such weights file.')
    if arguments.option_file is not None and not os.path.exists(find_option_file(arguments.option_file)):
        raise RequestError(f'-opt {arguments.option_file}: no such option file')


def run(arguments: argparse.Namespace) -> int:
    """Restores and returns the exit status: 1 if something could not be restored completely.

    Raises:
        RequestError: The request is wrong; nothing has been written.
    """
    results = _result_settings(arguments)
    from pdan_plugin.restoration.file_restoration import restore_path

    return restore_path(
        arguments.input,
        arguments.output,
        arguments.weights,
        arguments.option_file,
        param_key=arguments.param_key,
        precision=arguments.precision,
        compiled=arguments.compile,
        tile=arguments.tile,
        overlap=arguments.overlap,
        memory=arguments.memory,
        self_ensemble=arguments.self_ensemble,
        local_pooling=arguments.local_pooling,
        cuda_graphs=arguments.cuda_graphs,
        device=arguments.device,
        devices=arguments.devices,
        overwrite=arguments.overwrite,
        results=results,
        dry_run=arguments.dry_run,
    )


def _result_settings(arguments: argparse.Namespace) -> ResultSettings:
    size = None
    if arguments.scale is not None:
        size = ResultSize(scale=arguments.scale)
    elif arguments.size is not None:
        size = ResultSize(width=arguments.size[0], height=arguments.size[1])
    return ResultSettings(
        size=size,
        picture=PictureFormat(arguments.format, arguments.quality, arguments.lossless),
        video=VideoCoding(arguments.codec, arguments.crf, arguments.preset),
        frames=None if arguments.frames is None else FrameRange(*arguments.frames),
        suffix=arguments.suffix,
    )


def _tile(text: str) -> int | str:
    if text == 'auto':
        return text
    try:
        return whole_number(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f'{error}, or auto') from None
