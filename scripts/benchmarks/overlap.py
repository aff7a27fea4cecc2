"""Restoring files against its slowest stage alone: reading and writing happen while the network works."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.pictures import large_frames
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_writing import write_picture
from pdan_plugin.media.video import restore_video
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.picture_jobs import PictureJobs
from pdan_plugin.restoration.restorer import Restorer

SCALE = 4
_SIZES = ((180, 320), (180, 320), (270, 480), (180, 320), (360, 640), (720, 1280))  # (height, width), in turn
_VIDEO_SIZE = (180, 320)


class Sleeping(nn.Module):
    """A network that takes the same time for every picture and none of the processor, as one on a GPU does.

    The result is that of the first picture of each size.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = 0.0  # none while its sizes are measured
        self._wanted = seconds
        self._results: dict[torch.Size, Tensor] = {}

    def __deepcopy__(self, memo: object) -> Sleeping:
        return self  # the restorer's copy falls asleep with this one

    def begin(self) -> None:
        self.seconds = self._wanted

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)  # releases the interpreter's lock
        if x.shape not in self._results:
            self._results[x.shape] = x.repeat_interleave(SCALE, dim=2).repeat_interleave(SCALE, dim=3)
        return self._results[x.shape]


def benchmark_overlap(pictures: int, frames: int, seconds: list[float]) -> dict[str, Any]:
    """Times a folder of PNG pictures of 320x180 to 1280x720 and a video, with networks that sleep.

    The stages alone: reading with as many threads as `restore` has, the network one picture after the other, rounding
    and writing with as many threads as there are cores. For the video: decoding, the network, and all but the network.
    Reading and writing share the cores, so together they may take longer than the slowest stage alone: all their
    processor time, divided by the number of cores, is one more limit, `processor`.

    Returns:
        For each kind and each sleep: ``seconds`` of the stages, of ``processor`` and of the whole, ``share``, the
        slowest stage divided by the whole, ``of_limit``, the slowest stage or ``processor``, whichever is larger,
        divided by the whole (1 is perfect), and ``in_turn``, the sum of the stages divided by the whole. ``png``:
        milliseconds and bytes of a 720p picture.
    """
    result: dict[str, Any] = {'cores': usable_cores(), 'pictures': pictures, 'frames': frames, 'kinds': {}}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        place = Path(folder)
        (place / 'in').mkdir()
        content = _write_pictures(place / 'in', pictures)
        _write_video(place / 'in.mp4', frames)
        for each in seconds:
            result['kinds'][f'pictures, network {1000 * each:.0f} ms'] = _time_pictures(place, content, each)
            result['kinds'][f'video, network {1000 * each:.0f} ms'] = _time_video(place, each)
        result['png'] = _time_png(place)
    return result


def _write_pictures(folder: Path, count: int) -> list[np.ndarray]:
    sources = list(large_frames(min(count, 6)))
    content = []
    for number in range(count):
        height, width = _SIZES[number % len(_SIZES)]
        crop = np.ascontiguousarray(sources[number % len(sources)][:height, :width])
        write_picture(folder / f'{number:03d}.png', Picture(crop))
        content.append(crop)
    return content


def _write_video(path: Path, count: int) -> None:
    height, width = _VIDEO_SIZE
    source = next(large_frames(1))
    with av.open(str(path), 'w') as output:
        stream = output.add_stream('libx264', rate=25, options={'crf': '10'})
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for number in range(count):
            window = source[number : number + height, 2 * number : 2 * number + width]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(window), format='rgb24')))
        output.mux(stream.encode(None))


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _restorer(seconds: float, first: Iterable[np.ndarray]) -> Restorer:
    network = Sleeping(seconds)
    restorer = Restorer(network, 'cpu')
    for picture in first:
        restorer.restore_picture(picture)
    network.begin()
    return restorer


def _processor_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _shares(stages: Mapping[str, float], processor: float, whole: float) -> dict[str, Any]:
    processor /= usable_cores()
    return {
        'seconds': {**stages, 'processor': processor, 'whole': whole},
        'share': max(stages.values()) / whole,
        'of_limit': max(processor, *stages.values()) / whole,
        'in_turn': sum(stages.values()) / whole,
    }


def _time_pictures(place: Path, content: list[np.ndarray], seconds: float) -> dict[str, Any]:
    restorer = _restorer(seconds, content[: len(_SIZES)])
    paths = sorted((place / 'in').iterdir())
    out = place / f'out_{seconds}'
    out.mkdir()

    def read() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(read_picture, paths))

    def network() -> None:
        for each in content:
            restorer.begin_picture(each)

    begun = [restorer.begin_picture(each) for each in content]

    def finish(number: int, restored: Callable[[], np.ndarray]) -> None:
        write_picture(out / f'alone_{number}.png', Picture(restored()))

    def write() -> None:
        with ThreadPoolExecutor(max(2, usable_cores())) as pool:
            list(pool.map(finish, range(len(begun)), begun))

    def whole() -> None:
        jobs = make_plan(place / 'in', out / 'whole').jobs
        failed = [error for _, error in PictureJobs(restorer).run(jobs) if error is not None]
        assert not failed, failed

    stages: dict[str, float] = {}
    stages['network'] = _timed(network)

    def read_and_write() -> None:
        stages['read'] = _timed(read)
        stages['round and write'] = _timed(write)

    processor = _processor_seconds(read_and_write)
    return _shares(stages, processor, _timed(whole))


def _time_video(place: Path, seconds: float) -> dict[str, Any]:
    source, target = place / 'in.mp4', place / f'out_{seconds}.mp4'

    def decoded() -> Iterator[np.ndarray]:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format='rgb24')

    frames = list(decoded())
    restorer = _restorer(seconds, frames[:1])
    awake = _restorer(0, frames[:1])  # decodes, encodes and copies, and takes no time for the network
    stages = {
        'read': _timed(lambda: list(decoded())),
        'network': _timed(lambda: [restorer.begin_picture(each) for each in frames]),
    }

    def all_but_the_network() -> None:
        stages['all but the network'] = _timed(lambda: restore_video(awake, source, target))

    processor = _processor_seconds(all_but_the_network)
    return _shares(stages, processor, _timed(lambda: restore_video(restorer, source, target)))


def _time_png(place: Path) -> dict[str, float]:
    picture = Picture(next(large_frames(1)))
    path = place / 'one.png'
    times = [_timed(lambda: write_picture(path, picture)) for _ in range(5)]
    return {'milliseconds': 1000 * min(times), 'bytes': path.stat().st_size}


def table(measured: Mapping[str, Any]) -> str:
    """The measured shares as text."""
    lines = [
        f'Restoring {measured["pictures"]} PNG pictures (320x180 to 1280x720) and a video of {measured["frames"]} '
        f'frames (320x180), 4x, with a network that sleeps; {measured["cores"]} cores'
    ]
    for name, kind in measured['kinds'].items():
        stages = ', '.join(f'{stage} {seconds:.2f}' for stage, seconds in kind['seconds'].items())
        lines.append(f'  {name:<28}{kind["share"]:>6.2f} of the slowest stage alone   ({stages} s)')
        lines.append(f'  {"":<28}{kind["of_limit"]:>6.2f} of the slowest stage or the processor, whichever is longer')
    png = measured['png']
    lines.append(f'  a PNG of 1280x720 is written in {png["milliseconds"]:.0f} ms ({png["bytes"] / 1e6:.2f} MB)')
    return '\n'.join(lines)
