"""scripts/synthesize_blur.py killed again and again, and what it left compared with a call that was never stopped.

    python tests/support/synthesis_kills.py FOLDER --kills 10

SIGKILL comes at a random moment, while frames are committed or stores are put in place, to the script alone or to its
worker processes too. Either way no process may be left. The calls commit every few frames, as ones a thousand times
longer do between two kills.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import kills
import lmdb
from skimage import data
from tqdm import tqdm
from warm_processes import WarmPython

from pdan_plugin.data.frame_store_writer import partial_path, read_checksums
from pdan_plugin.preparation.sample_stores import store_paths
from pdan_plugin.preparation.synthesis_record import RECORD, UNFINISHED

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'scripts' / 'synthesize_blur.py'
MOMENTS = ('any', 'commit', 'begin', 'any', 'start', 'any')
SETTINGS = ('--factor', '8', '--window', '33')
_CHILD = (
    'import runpy, sys\n'
    'from pdan_plugin.preparation import blur_synthesis\n'
    'blur_synthesis._SECONDS_BETWEEN_COMMITS = 0.1\n'
    f'sys.exit(runpy.run_path({str(SCRIPT)!r})["main"](sys.argv[1:]))\n'
)


def make_clips(folder: Path, clips: int, frames: int) -> Path:
    """Clips of windows that wander over photographs; in the second one the scene is cut."""
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    for clip in range(clips):
        (folder / f'{clip:03d}').mkdir(parents=True)
        for number in range(frames):
            photo = photos[(clip + (clip == 1 and number >= frames // 2 + 1)) % 3]
            window = photo[10 + number % 80 :, 30 + 2 * number % 160 :][:64, :96]
            cv2.imwrite(str(folder / f'{clip:03d}' / f'{number:08d}.png'), window[..., ::-1])
    return folder


def start(source: Path, target: Path, output: Path, settings: Sequence[str]) -> WarmPython:
    words = ['-c', _CHILD, source.resolve(), target.resolve(), *settings, '--workers', '2']
    with output.open('ab') as file:
        return WarmPython(*words, cwd=Path.cwd(), stdout=file.fileno())


def run_to_the_end(source: Path, target: Path, output: Path, settings: Sequence[str] = SETTINGS) -> None:
    if start(source, target, output, settings).wait(900) != 0:
        raise AssertionError(output.read_text(errors='replace')[-3000:])


def kill(
    source: Path,
    target: Path,
    output: Path,
    moment: str,
    draw: random.Random,
    alone: bool,
    settings: Sequence[str] = SETTINGS,
) -> bool:
    """Starts the script and kills it, ``alone`` or with its workers; whether the moment came before its end.

    Raises:
        AssertionError: A process it started outlived it by 20 seconds.
    """
    sharp = next(iter(store_paths(target, 'train').values()))
    journal = partial_path(sharp) / 'checksums.txt'
    before = _size(journal)
    process = start(source, target, output, settings)

    def wait_until(happened: Callable[[], bool]) -> None:
        while process.poll() is None and not happened():
            time.sleep(0.0002 if moment == 'finish' else 0.005)

    if moment == 'start':
        time.sleep(draw.uniform(0.5, 8))
    elif moment == 'begin':  # what is to be done has just been written down, or stands there already
        wait_until((target / UNFINISHED).exists)
    elif moment == 'finish':
        wait_until(lambda: (partial_path(sharp) / 'meta_info.txt').exists() or sharp.exists())
    else:
        wait_until(lambda: _size(journal) != before)
        time.sleep(draw.uniform(0, 1.5) if moment == 'any' else 0)
    alive = process.poll() is None
    family = descendants(process.pid)
    if alone:
        process.kill()
    else:
        kills.kill_with_descendants(process.pid)
    process.wait()
    deadline = time.monotonic() + 120  # workers that are being started hear of it once they have imported
    while left := {pid for pid in family if _is_running(pid)}:
        assert time.monotonic() < deadline, f'{moment}: processes {left} outlived the script'
        time.sleep(0.05)
    return alive


def descendants(pid: int) -> set[int]:
    """All that a process started, and what these started."""
    parents = {int(path.parent.name): kills._parent(path) for path in Path('/proc').glob('[0-9]*/stat')}
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def _is_running(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def values(store: Path) -> dict[bytes, bytes]:
    """What a store holds, byte by byte."""
    environment = lmdb.open(str(store), readonly=True, lock=False)
    with environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def differences(one: Path, other: Path) -> list[str]:
    """What two finished folders hold differently: names, values key by key, text files, the record."""
    names = [sorted(path.name for path in folder.iterdir() if 'shard' not in path.name) for folder in (one, other)]
    result = [] if names[0] == names[1] else [f'{names[0]} against {names[1]}']
    for path in store_paths(Path(), 'train').values():
        stored = [values(folder / path) for folder in (one, other)]
        if stored[0].keys() != stored[1].keys() or not stored[0]:
            result.append(f'{path}: {len(stored[0])} keys against {len(stored[1])}')
        result += [f'{path}: {key.decode()}' for key in stored[0] if stored[0][key] != stored[1].get(key)]
        result += [
            f'{path}/{name}'
            for name in ('meta_info.txt', 'checksums.txt')
            if (one / path / name).read_bytes() != (other / path / name).read_bytes()
        ]
    if (one / RECORD).read_bytes() != (other / RECORD).read_bytes():
        result.append(RECORD)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='where the clips and both results go; must not exist')
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--frames', type=int, default=500, help='frames a clip; more make longer calls')
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    source = make_clips(arguments.folder / 'clips', 4, arguments.frames)
    whole, killed, output = (arguments.folder / name for name in ('whole', 'killed', 'output.txt'))
    run_to_the_end(source, whole, output)
    for number in tqdm(range(arguments.kills), unit='kill'):
        moment = MOMENTS[number % len(MOMENTS)] if number < arguments.kills - 1 else 'finish'  # the end comes once
        if not kill(source, killed, output, moment, draw, alone=number % 2 == 0):
            print(f'kill {number + 1} ({moment}) came after the end: take more --frames')
            sys.exit(1)
        done = len(read_checksums(partial_path(killed / 'train_sharp.lmdb')))
        tqdm.write(f'kill {number + 1} ({moment}): {done} frames are in the store')
    run_to_the_end(source, killed, output)
    unlike = differences(whole, killed)
    print('\n'.join(unlike) or f'{arguments.kills} kills: not a byte differs')
    sys.exit(bool(unlike))


if __name__ == '__main__':
    main()
