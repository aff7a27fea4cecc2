"""`basicsr restore --dry-run`: lists the results that a run would write."""

from __future__ import annotations

import sys
from collections import Counter

from pdan_plugin.media.picture_files import PictureFileError, read_upright_size
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.video_source import VideoFileError, VideoHeader, read_video_header
from pdan_plugin.restoration.jobs import Job, Plan
from pdan_plugin.restoration.picture_jobs import picture_to_restore
from pdan_plugin.restoration.result_checks import size_of_result

_HOLD_ALL = ('.png', '.tif', '.tiff')


def list_results(plan: Plan, left: list[Job], results: ResultSettings, scale: int) -> int:
    """Prints a line for each file: the result and its size in pixels, or why there will be none.

    Pixels are decoded only where the format may not hold them; a damaged picture may fail later.

    Args:
        left: The jobs that are not done yet.
        scale: Of the network.

    Returns:
        The exit status: 1 if a file cannot be restored.
    """
    to_do = {job.target for job in left}
    counts: Counter[str] = Counter()
    for job in plan.jobs:
        try:
            line = _picture_line(job, results, scale) if job.kind == 'picture' else _video_line(job, results, scale)
        except (OSError, PictureFileError, VideoFileError) as error:
            counts['cannot be restored'] += 1
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            print(f'{job.source}: {reason}', file=sys.stderr, flush=True)
            continue
        state = 'to restore' if job.target in to_do else 'already done with the same settings'
        counts[state] += 1
        print(f'{job.target}: {line}' + ('' if job.target in to_do else f' ({state})'))
    words = ', '.join(f'{count} {state}' for state, count in counts.items())
    print(f'Dry run: {words}; nothing was written.', flush=True)
    return 1 if counts['cannot be restored'] else 0


def _picture_line(job: Job, results: ResultSettings, scale: int) -> str:
    if job.picture is None and job.target.suffix.lower() in _HOLD_ALL:
        height, width = read_upright_size(job.source)
        return _sizes(height, width, size_of_result(results, (height, width), scale))
    height, width = picture_to_restore(job, results, scale).colour.shape[:2]
    return _sizes(height, width, size_of_result(results, (height, width), scale))


def _video_line(job: Job, results: ResultSettings, scale: int) -> str:
    header = job.header if isinstance(job.header, VideoHeader) else read_video_header(job.source)
    video = header.video
    if video is None:
        raise VideoFileError(str(header.problem))
    height, width = video.upright_size
    encoder = results.video.encoder(is_deep=video.bits > 8)
    about = f'about {video.frames} frames' if video.frames else 'an unknown number of frames'
    frames = about if results.frames is None else f'frames {results.frames} of {about}'
    size = size_of_result(results, (height, width), scale, is_video=True)
    return f'{_sizes(height, width, size)}, {frames}, {encoder.codec} at crf {encoder.options["crf"]}'


def _sizes(height: int, width: int, size: tuple[int, int]) -> str:
    return f'{width}x{height} -> {size[1]}x{size[0]}'
