"""scripts/prepare_reds.py killed again and again, and the stores it leaves compared with those never interrupted.

    python tests/support/prepare_kills.py FOLDER --kills 10 [--codec png] [--seed 1]

Each time the script is started anew and gets SIGKILL: while it surveys, while it writes, when a finished store is about
to be put in its place or just was, while it verifies, or at any moment.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import reds_tree
from tqdm import tqdm
from warm_processes import WarmPython

# A commit every few frames and the set is as hard to lose nothing of as one a thousand times larger.
CHILD = (
    'import sys, pdan_plugin.data.frame_store_writer as writer\n'
    'from pdan_plugin.preparation.store_preparation import prepare_reds\n'
    'writer._BATCH_BYTES = 1 << 15\n'
    'prepare_reds(sys.argv[1], sys.argv[2], codec=sys.argv[3], workers=2, verify=True)\n'
)
MOMENTS = ('survey', 'write', 'finish', 'write', 'in place', 'any', 'write', 'finish', 'verify', 'verify')


def start(source: Path, target: Path, codec: str) -> WarmPython:
    words = ['-c', CHILD, source.resolve(), target.resolve(), codec]
    with open(output_of(target), 'wb') as output:
        return WarmPython(
            *words, cwd=Path.cwd(), stdout=output.fileno(), environment={'PYTHONPATH': str(Path(__file__).parents[2])}
        )


def output_of(target: Path) -> Path:
    return target.with_name(f'{target.name}.txt')


def run_to_the_end(source: Path, target: Path, codec: str = 'bmp') -> str:
    """Everything it said."""
    status = start(source, target, codec).wait(300)
    said = output_of(target).read_text()
    assert status == 0, said[-3000:]
    return said


def kill(source: Path, target: Path, moment: str, draw: random.Random, codec: str = 'bmp') -> bool:
    """Starts it and kills it; whether the moment came before its end."""

    def sizes(pattern: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for path in target.glob(pattern):
            with suppress(OSError):  # put in its place since
                found[str(path)] = path.stat().st_size
        return found

    def lines() -> Counter[str]:
        return sizes('*.partial/checksums.txt')

    def said(what: str) -> bool:
        return what in output_of(target).read_text()

    before = lines()
    in_place = set(target.glob('*.lmdb'))
    described = set(target.glob('*.partial/meta_info.txt'))
    process = start(source, target, codec)

    def wait_until(happened: Callable[[], bool]) -> None:
        while process.poll() is None and not happened():
            time.sleep(0.0002)

    if moment == 'survey':
        wait_until(lambda: said('check '))
        time.sleep(draw.uniform(0, 0.03))
    elif moment == 'write':
        more = draw.randrange(1, 4000)  # bytes of checksums: up to some 70 frames
        wait_until(lambda: max((lines() - before).values(), default=0) > more)
    elif moment == 'finish':
        wait_until(
            lambda: (
                not set(target.glob('*.partial/meta_info.txt')) <= described
                or not set(target.glob('*.lmdb')) <= in_place  # on a fast disk the description is not there for long
            )
        )
        time.sleep(draw.uniform(0, 0.002))
    elif moment == 'in place':
        wait_until(lambda: not set(target.glob('*.lmdb')) <= in_place)
    elif moment == 'verify':
        wait_until(lambda: said('verify '))
        time.sleep(draw.uniform(0, 0.05))
    else:
        wait_until(lambda: said('check '))
        time.sleep(draw.uniform(0, 0.4))
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def differences(one: Path, other: Path) -> list[str]:
    """Keys, values and text files in which the stores of two folders differ."""
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, other)]
    result = [] if names[0] == names[1] else [f'stores: {names}']
    for name in sorted(set(names[0]) & set(names[1])):
        first, second = reds_tree.stored(one / name), reds_tree.stored(other / name)
        result += [f'{name}: {key}' for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='where the data and both results go; must not exist')
    parser.add_argument('--kills', type=int, default=10)
    parser.add_argument('--codec', choices=['bmp', 'png'], default='bmp')
    parser.add_argument('--frames', type=int, default=100)
    parser.add_argument('--seed', type=int, default=0)
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    source = chosen.folder / 'REDS'
    for split in ('train', 'val'):
        reds_tree.make_reds(source, split=split, clips=3, frames=chosen.frames)
    whole, killed = chosen.folder / 'whole', chosen.folder / 'killed'
    run_to_the_end(source, whole, chosen.codec)
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(chosen.kills)]
    moments.sort(key=lambda moment: moment == 'verify')  # which comes last
    for number, moment in enumerate(tqdm(moments, unit='kill')):
        if not kill(source, killed, moment, draw, chosen.codec):
            print(f'kill {number + 1} ({moment}) came after the end: take more --frames')
            sys.exit(1)
        tqdm.write(f'{moment}: ' + ', '.join(sorted(path.name for path in killed.glob('*'))))
    run_to_the_end(source, killed, chosen.codec)
    unlike = differences(whole, killed)
    print('\n'.join(unlike[:20]) or f'{chosen.kills} kills: the stores are the same, key by key')
    sys.exit(bool(unlike))


if __name__ == '__main__':
    main()
