"""A training pair from the sub-frames of one exposure, 1280x720, one thread: ours against plain numpy."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils.matlab_functions import imresize as toolbox_imresize

from benchmarks.pictures import SCALE, large_frames
from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.machine.cores import one_thread
from pdan_plugin.synthesis.bicubic import downsample_uint8, imresize
from pdan_plugin.synthesis.camera_response import response
from pdan_plugin.synthesis.frame_interpolation import interpolator
from pdan_plugin.synthesis.motion_blur import average_subframes

WHOLE, AVERAGE, SMALLER = 'the whole pair', 'average in light', '4x smaller, without rounding'
FLOW, FLOW_PAIR = 'flow interpolation, x16 between two frames', 'of it, before the first frame'
_RESPONSE = 'gamma'
_SPEED = 3  # pixels per sub-frame


def benchmark_synthesis(rounds: int, subframes: int = 17) -> dict[str, Any]:
    """Times making a blurred frame from ``subframes`` sharp ones, and downsampling it and the middle one four times.

    The plain way uses numpy's powers and means for the average, and the stock toolbox's port of MATLAB's imresize.

    Returns:
        ``ratio`` (the whole pair), ``ratios`` by part, ``seconds`` of both sides by part (``ours``, ``plain``),
        ``interpolation`` (seconds of flow), ``largest_difference`` of the blurred small frame in grey levels,
        ``subframes``, ``rounds``.

    Raises:
        RequestError: scikit-image is not installed.
    """
    [frame] = large_frames(1)
    moved = [np.roll(frame, _SPEED * number, axis=1) for number in range(subframes)]
    camera = response(_RESPONSE)
    flow = interpolator('flow')
    picture = torch.from_numpy(frame).permute(2, 0, 1).float().div(255)
    pairs: dict[str, np.ndarray] = {}

    def ours() -> None:
        blurred = average_subframes(moved, camera)
        pairs['ours'] = np.stack([downsample_uint8(one, SCALE) for one in (blurred, moved[subframes // 2])])

    def plain() -> None:
        blurred = _plain_average(moved)
        pairs['plain'] = np.stack([_plain_smaller(one) for one in (blurred, moved[subframes // 2])])

    sides = {
        f'ours, {WHOLE}': Candidate(ours),
        f'plain, {WHOLE}': Candidate(plain),
        f'ours, {AVERAGE}': Candidate(lambda: average_subframes(moved, camera)),
        f'plain, {AVERAGE}': Candidate(lambda: _plain_average(moved)),
        f'ours, {SMALLER}': Candidate(lambda: imresize(picture, 1 / SCALE)),
        f'plain, {SMALLER}': Candidate(lambda: toolbox_imresize(picture, 1 / SCALE)),
        FLOW: Candidate(lambda: [None for _ in flow.between(moved[0], moved[2], 16)]),
        FLOW_PAIR: Candidate(lambda: next(flow.between(moved[0], moved[2], 16))),
    }
    with one_thread():
        seconds = medians(times_in_turn(sides, rounds, warm_up=1, description='synthesis'))
    parts = (WHOLE, AVERAGE, SMALLER)
    ratios = {part: seconds[f'plain, {part}'] / seconds[f'ours, {part}'] for part in parts}
    return {
        'benchmark': 'synthesis',
        'ratio': ratios[WHOLE],
        'ratios': ratios,
        'seconds': {side: {part: seconds[f'{side}, {part}'] for part in parts} for side in ('ours', 'plain')},
        'interpolation': {name: seconds[name] for name in (FLOW, FLOW_PAIR)},
        'largest_difference': int(np.abs(pairs['ours'].astype(int) - pairs['plain']).max()),
        'subframes': subframes,
        'rounds': rounds,
    }


def _plain_average(frames: list[np.ndarray]) -> np.ndarray:
    light = np.mean([(frame / 255) ** 2.2 for frame in frames], axis=0)
    return np.rint(light ** (1 / 2.2) * 255).astype(np.uint8)


def _plain_smaller(frame: np.ndarray) -> np.ndarray:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) / 255.0
    small = toolbox_imresize(bgr, 1 / SCALE)
    return cv2.cvtColor(np.clip(np.rint(small * 255), 0, 255).astype(np.uint8), cv2.COLOR_BGR2RGB)


def table(result: dict[str, Any]) -> str:
    lines = [f'{result["subframes"]} sub-frames of 1280x720, one thread{"ours":>19}{"plain":>14}']
    for part, ratio in result['ratios'].items():
        ours, plain = (result['seconds'][side][part] * 1e3 for side in ('ours', 'plain'))
        lines.append(f'  {part:<42}{ours:>9.1f} ms{plain:>11.1f} ms{ratio:>8.1f} times')
    lines += [f'  {name:<42}{seconds * 1e3:>9.1f} ms' for name, seconds in result['interpolation'].items()]
    lines.append(
        f'A pair is made {result["ratio"]:.1f} times as fast as the plain way; the two differ by '
        f'{result["largest_difference"]} grey level(s) at most.'
    )
    return '\n'.join(lines)
