"""How long commands take to answer, against `python -c pass` and `python -c "import torch"`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pdan_plugin.commands.main import COMMANDS
from pdan_plugin.errors import RequestError

PASS, TORCH = 'python -c pass', 'python -c "import torch"'
RESTORED = 'basicsr restore (16x16 pixels)'
_MISTAKES = {
    'basicsr (no command)': [],
    'basicsr train (no -opt)': ['train'],
    'basicsr train -opt absent.yml': ['train', '-opt', 'absent.yml'],
    'basicsr restore absent.png -o out': ['restore', 'absent.png', '-o', 'out'],
}

# A process begins with the largest memory of the one that starts it, so a small Python does.
_MEASURING = """
import json, os, sys, time
begin = time.perf_counter()
nowhere = os.open(os.devnull, os.O_WRONLY)
sent = [(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (1, 2)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=sent)
_, status, usage = os.wait4(process, 0)
seconds = time.perf_counter() - begin
unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes there, kilobytes elsewhere
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit]))
"""


@dataclass(frozen=True)
class _Start:
    """What is started: the words after `python`, and the exit status that it must have."""

    words: list[str]
    status: int = 0


def benchmark_start(rounds: int) -> dict[str, Any]:
    """Starts each of them once a round, in turn, in an empty folder, as a new process.

    Returns:
        ``ratio`` (how many times as long as `import torch` a restored picture takes), ``seconds`` (medians), ``cpu``
        (medians of processor seconds) and ``megabytes`` (largest resident memory), each by name; ``rounds``.

    Raises:
        RequestError: The system does not report the memory of a process, as Windows.
    """
    if not hasattr(os, 'wait4'):
        raise RequestError('start: this system does not report the memory of a process that has ended')
    measured: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_picture(Path(folder, 'in.png'))
        starts = _starts()
        with tqdm(total=rounds * len(starts), desc='start', unit='start', disable=None, leave=False) as bar:
            for _ in range(rounds):
                for name, start in starts.items():
                    measured.setdefault(name, []).append(_measure(name, start, folder))
                    bar.update()
    seconds, cpu = (
        {name: statistics.median(each[i] for each in runs) for name, runs in measured.items()} for i in (0, 1)
    )
    return {
        'benchmark': 'start',
        'ratio': seconds[RESTORED] / seconds[TORCH],
        'seconds': seconds,
        'cpu': cpu,
        'megabytes': {name: max(each[2] for each in runs) for name, runs in measured.items()},
        'rounds': rounds,
    }


def table(result: dict[str, Any]) -> str:
    seconds, cpu, megabytes = result['seconds'], result['cpu'], result['megabytes']
    lines = [f'{"":<40}{"seconds":>9}{"CPU":>7}{"MB":>7}{"to pass":>10}{"to torch":>10}']
    lines += [
        f'{name:<40}{seconds[name]:>9.2f}{cpu[name]:>7.2f}{megabytes[name]:>7.0f}'
        f'{seconds[name] / seconds[PASS]:>10.1f}{seconds[name] / seconds[TORCH]:>10.2f}'
        for name in seconds
    ]
    beyond = seconds[RESTORED] - seconds[TORCH]
    lines.append(
        f'A restored picture takes {beyond:.2f} s more than `import torch`, {result["ratio"]:.2f} times as long.'
    )
    return '\n'.join(lines)


def _starts() -> dict[str, _Start]:
    command = ['-m', 'pdan_plugin']
    starts = {PASS: _Start(['-c', 'pass']), TORCH: _Start(['-c', 'import torch'])}
    for words in (['--help'], ['--version'], *([name, '--help'] for name in COMMANDS)):
        starts[' '.join(['basicsr', *words])] = _Start([*command, *words])
    starts |= {name: _Start([*command, *words], 2) for name, words in _MISTAKES.items()}
    starts['basicsr options'] = _Start([*command, 'options'])
    starts[RESTORED] = _Start([*command, 'restore', 'in.png', '-o', 'out.png', '--overwrite'])
    return starts


def _measure(name: str, start: _Start, folder: str) -> tuple[float, float, float]:
    """(seconds, processor seconds, megabytes) of one start.

    Raises:
        RuntimeError: It ended with another status.
    """
    measuring = [sys.executable, '-S', '-c', _MEASURING, sys.executable, *start.words]
    done = subprocess.run(measuring, cwd=folder, capture_output=True, text=True, check=True)
    status, seconds, cpu, megabytes = json.loads(done.stdout)
    if status != start.status:
        raise RuntimeError(f'{name} ended with status {status}, expected {start.status}')
    return seconds, cpu, megabytes


def _write_picture(path: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8))
