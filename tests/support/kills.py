"""A run that is killed again and again, and what it left compared with one that was never stopped.

    python tests/support/kills.py FOLDER --kills 20 [--ranks 2]

Each time the run is started with --auto_resume and its processes get SIGKILL: at a random moment, while a checkpoint is
being written, in a validation, or while it starts.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import small_run
import torch
from tqdm import tqdm
from warm_processes import WarmPython

NAME = 'killed'
MOMENTS = ('any', 'save', 'validation', 'any', 'start')


def options(total_iter: int, num_feat: int = 8) -> dict[str, Any]:
    """A run of RestorationModel that saves and validates often, with workers, an average and a plateau schedule."""
    chosen = small_run.train_options()
    for dotted, value in {
        'name': NAME,
        'model_type': 'RestorationModel',
        'network_g.num_feat': num_feat,
        'train.total_iter': total_iter,
        'train.scheduler': {'type': 'ReduceLROnPlateau', 'patience': 20, 'window': 3},
        'datasets.train.num_worker_per_gpu': 2,
        'datasets.train.dataset_enlarge_ratio': 5,
        'val.val_freq': 5,
        'logger.print_freq': 1,
        'logger.save_checkpoint_freq': 5,
        'logger.keep_checkpoints': 2,
    }.items():
        chosen = small_run.changed(chosen, dotted, value)
    return chosen


def start(folder: Path, ranks: int) -> WarmPython:
    workers = ['--nproc', str(ranks)] if ranks > 1 else []
    words = ['-m', 'pdan_plugin', 'train', '-opt', 'small.yml', '--auto_resume', *workers]
    with open(folder / 'output.txt', 'ab') as output:
        return WarmPython(
            *words, cwd=folder, stdout=output.fileno(), environment={'PYTHONPATH': str(Path(__file__).parents[2])}
        )


def prepare(folder: Path, chosen: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    small_run.write_pictures(folder)
    small_run.write_options(folder, chosen)


def run_to_the_end(folder: Path, ranks: int = 1) -> None:
    process = start(folder, ranks)
    if process.wait(600) != 0:
        raise AssertionError((folder / 'output.txt').read_text()[-3000:])


def kill(folder: Path, moment: str, draw: random.Random, ranks: int = 1) -> bool:
    """Starts the run and kills it with all it started; whether the moment came before its end."""
    history = folder / 'experiments' / NAME / 'history.jsonl'
    before = _written(history)
    process = start(folder, ranks)

    def wait_until(happened: Callable[[], bool]) -> None:
        while process.poll() is None and not happened():
            time.sleep(0.0005)

    if moment == 'start':
        time.sleep(draw.uniform(0.5, 6))
    else:
        wait_until(lambda: _written(history) != before)
    if moment == 'any':
        time.sleep(draw.uniform(0, 1))
    elif moment == 'save':
        folders = [history.parent / name for name in ('models', 'training_states')]
        wait_until(lambda: any(_is_being_written(each) for each in folders))
    elif moment == 'validation':  # it follows the checkpoint of its iteration
        states = history.parent / 'training_states'
        seen = set(states.glob('*.state'))
        wait_until(lambda: not set(states.glob('*.state')) <= seen)
        time.sleep(draw.uniform(0, 0.1))
    alive = process.poll() is None
    kill_with_descendants(process.pid)
    process.wait()
    return alive


def kill_with_descendants(pid: int) -> None:
    """SIGKILL to a process and all it started, which may be in process groups of their own."""
    family = {pid}
    while True:  # until a look finds none that was started meanwhile
        parents = {int(path.parent.name): _parent(path) for path in Path('/proc').glob('[0-9]*/stat')}
        found = {child for child, parent in parents.items() if parent in family} | family
        if found == family:
            break
        family = found
    for each in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _parent(stat: Path) -> int:
    with contextlib.suppress(OSError):
        return int(stat.read_text().rpartition(')')[2].split()[1])
    return 0


def _written(history: Path) -> tuple[int, int]:
    if not history.exists():
        return 0, 0
    stat = history.stat()
    return stat.st_mtime_ns, stat.st_size


def _is_being_written(folder: Path) -> bool:
    return folder.is_dir() and any(name.endswith('.partial') for name in os.listdir(folder))


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs left differently: weights, average, optimizer, random states, record of scores."""
    result = []
    for pattern in ('models/net_g_latest.pth', 'training_states/*.state'):
        files = [sorted((folder / 'experiments' / NAME).glob(pattern)) for folder in (one, other)]
        if [each.name for each in files[0]] != [each.name for each in files[1]] or not files[0]:
            result.append(f'{pattern}: {files}')
        for pair in zip(*files, strict=False):
            contents = [torch.load(path, weights_only=True) for path in pair]
            result += [f'{pair[0].name}: {place}' for place in small_run.unlike(*contents)]
    records = [(folder / 'experiments' / NAME / 'history.jsonl').read_bytes() for folder in (one, other)]
    if records[0] != records[1]:
        result.append('history.jsonl')
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='where both runs go; must not exist')
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--ranks', type=int, default=1)
    parser.add_argument('--iterations', type=int, default=400)
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    chosen, draw = options(arguments.iterations, num_feat=64), random.Random(arguments.seed)
    whole, killed = arguments.folder / 'whole', arguments.folder / 'killed'
    for folder in (whole, killed):
        prepare(folder, chosen)
    run_to_the_end(whole, arguments.ranks)
    for number in tqdm(range(arguments.kills), unit='kill'):
        moment = MOMENTS[number % len(MOMENTS)]
        if not kill(killed, moment, draw, arguments.ranks):
            print(f'kill {number + 1} ({moment}) came after the end: take more --iterations')
            sys.exit(1)
    run_to_the_end(killed, arguments.ranks)
    unlike = differences(whole, killed)
    print('\n'.join(unlike) or f'{arguments.kills} kills, {arguments.ranks} rank(s): not a bit differs')
    sys.exit(bool(unlike))


if __name__ == '__main__':
    main()
