"""Runs programs on a folder of small pictures, and scores what they write: PSNR above OpenCV's bicubic."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from basicsr.metrics import calculate_psnr

from everyday.kinds import KINDS, SCALE, Kind, Pixels, ground_truth, small_pictures, store
from pdan_plugin.errors import RequestError, WorkError, first_of
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.media.picture_files import PictureFileError, read_as_shown

Restore = Callable[[Path, Path], None]  # the folder of small pictures, the folder for the results
_SHOWN_LINES = 15  # of a failed program's output
_SAME = 0.005  # dB between two machines' scores of bicubic


def score_programs(
    photographs: Mapping[str, Path], programs: Mapping[str, Restore], earlier: Path | None = None
) -> dict[str, Any]:
    """Makes the small pictures, hands all of them to each program in one call, and scores the results.

    Args:
        photographs: Files by name.
        programs: What writes a picture of the same stem, 4x as large, for every picture of a folder.
        earlier: The JSON file of a result with the same photographs; its programs are kept if they are not run again.

    Returns:
        ``photographs``, the names; ``bicubic``, PSNR by kind; ``gains``, dB above bicubic by program and kind. Means
        over the photographs, RGB.

    Raises:
        RequestError: A photograph cannot be read, or ``earlier`` is something else or was measured on other pictures.
        WorkError: A program failed, or a result is missing or has another size.
    """
    truth: dict[str, Pixels] = {}
    members: dict[Kind, list[tuple[str, Path]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / 'inputs'
        inputs.mkdir()
        for number, (name, path) in enumerate(photographs.items()):
            truth[name] = ground_truth(_read(path, RequestError))
            for kind, picture in small_pictures(truth[name], number):
                members[kind].append((name, store(picture, kind, Path(name).stem, inputs)))

        def mean_psnr(enlarged: Callable[[Path, Pixels], Pixels], kind: Kind) -> float:
            return float(np.mean([_psnr(enlarged(path, truth[name]), truth[name]) for name, path in members[kind]]))

        bicubic = {str(kind): mean_psnr(_bicubic, kind) for kind in KINDS}
        gains = {} if earlier is None else _earlier_gains(earlier, list(photographs), bicubic)
        for number, (program, restore) in enumerate(programs.items()):
            results = Path(scratch) / f'results_{number}'
            results.mkdir()
            restore(inputs, results)

            def restored(path: Path, expected: Pixels, results: Path = results, program: str = program) -> Pixels:
                return _result(path, expected, results, program)

            gains[program] = {str(kind): mean_psnr(restored, kind) - bicubic[str(kind)] for kind in KINDS}
    return {'photographs': list(photographs), 'bicubic': bicubic, 'gains': gains}


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row for each program with its gain for each kind and their mean; the best mean first."""
    kinds = list(result['bicubic'])
    lines = [f'| dB above bicubic | {" | ".join(kinds)} | mean |', '|---' * (len(kinds) + 2) + '|']

    def mean(gains: Mapping[str, float]) -> float:
        return float(np.mean([gains[kind] for kind in kinds]))

    for program, gains in sorted(result['gains'].items(), key=lambda item: -mean(item[1])):
        cells = [f'{value:+.2f}' for value in (*(gains[kind] for kind in kinds), mean(gains))]
        lines.append(f'| {program} | {" | ".join(cells)} |')
    cells = [f'{value:.2f}' for value in (*result['bicubic'].values(), np.mean([*result['bicubic'].values()]))]
    lines.append(f"| OpenCV's bicubic, PSNR | {' | '.join(cells)} |")
    return '\n'.join(lines)


def by_command(name: str, command: str) -> Restore:
    """Calls ``COMMAND INPUT_FOLDER OUTPUT_FOLDER``. Raises a WorkError with the end of its output if it fails."""

    def restore(inputs: Path, results: Path) -> None:
        _call(name, [*shlex.split(command), str(inputs), str(results)])

    return restore


def by_this_project(weights: str, more: Sequence[str] = ()) -> Restore:
    """Calls ``basicsr restore``, with the weights' name or file and more of its arguments."""

    def restore(inputs: Path, results: Path) -> None:
        words = [sys.executable, '-m', 'pdan_plugin', 'restore', str(inputs), '-o', str(results), '-w', weights, *more]
        _call(weights, words)

    return restore


def _earlier_gains(file: Path, photographs: list[str], bicubic: Mapping[str, float]) -> dict[str, dict[str, float]]:
    if not file.exists():
        return {}
    try:
        old = json.loads(file.read_text(encoding='utf-8'))
        same = old['photographs'] == photographs and all(
            abs(old['bicubic'][kind] - value) <= _SAME for kind, value in bicubic.items()
        )
        gains = {program: {kind: float(each[kind]) for kind in bicubic} for program, each in old['gains'].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f'{file}: is not a result of this script ({error!r}); give another --json') from error
    if not same:
        raise RequestError(
            f'{file}: was measured on other pictures: other photographs, or bicubic differs by more than {_SAME} dB; '
            'give another --json, and measure all programs again'
        )
    return gains


def _call(name: str, words: Sequence[str]) -> None:
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace')
    except OSError as error:
        raise RequestError(f'{name}: {words[0]} cannot be started: {error.strerror}') from error
    if done.returncode:
        last = '\n'.join(f'  {line}' for line in done.stdout.splitlines()[-_SHOWN_LINES:])
        raise WorkError(f'{name}: {shlex.join(words)} ended with status {done.returncode}:\n{last}')


def _result(small: Path, truth: Pixels, folder: Path, program: str) -> Pixels:
    found = [path for path in sorted(folder.glob(f'{small.stem}.*')) if path.suffix.lower() in PICTURE_SUFFIXES]
    if len(found) != 1:
        written = '\n'.join(first_of(sorted(path.name for path in folder.iterdir()), 5)) or 'nothing'
        raise WorkError(f'{program}: expected one picture {small.stem}.png; it wrote:\n{written}')
    picture = _read(found[0], WorkError)
    if picture.shape != truth.shape:
        sizes = ['x'.join(map(str, each.shape[1::-1])) for each in (picture, truth)]
        raise WorkError(f'{program}: {found[0].name} is {sizes[0]}, expected {sizes[1]}: {SCALE} times {small.name}')
    return picture


def _bicubic(small: Path, truth: Pixels) -> Pixels:
    enlarged = cv2.resize(_read(small, WorkError), truth.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return enlarged.astype(np.uint8)


def _psnr(picture: Pixels, truth: Pixels) -> float:
    return float(calculate_psnr(picture, truth, crop_border=0))


def _read(path: Path, error_type: type[Exception]) -> Pixels:
    try:
        return read_as_shown(path)
    except (PictureFileError, OSError) as error:
        raise error_type(f'{path}: cannot be read as a picture: {error}') from error
