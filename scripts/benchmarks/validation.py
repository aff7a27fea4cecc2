"""Validation by two processes against one, each with one thread, through the toolbox's own data and model."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from torch import distributed

from benchmarks.contenders import rcan
from benchmarks.pictures import SCALE, WHOLE_PICTURE, write_validation_pictures
from benchmarks.timing import Candidate, medians, times_in_turn
from pdan_plugin.machine.cores import use_one_thread
from pdan_plugin.processes.worker_contexts import SpawnedWorkerContext
from pdan_plugin.toolbox_fixes import stock_toolbox

ONE, TWO, STOCK = '1 process', '2 processes', 'stock toolbox, 1 process'
_METRICS = {
    'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False},
    'ssim': {'type': 'calculate_ssim', 'crop_border': 0, 'test_y_channel': False},
}
# Every process has one thread; these variables limit the libraries.
_THREAD_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')
# The stock toolbox adds scores with rounding, ours adds them exactly.
_ROUNDING = 1e-9


def benchmark_validation(rounds: int, features: int, pictures: int | None = None) -> dict[str, Any]:
    """Times the scoring (PSNR, SSIM) of pictures 288x384 restored by an RCAN (2 groups of 4 blocks), on the CPU.

    The processes are started once and wait for their turn. Only the validation is timed, inside the processes, after
    they are synchronised.

    Args:
        features: RCAN's width.
        pictures: Number of pictures; default: all 22. With an odd number, one of two processes waits for the other.

    Returns:
        ``ratio`` (two processes against one), ``seconds`` (medians) and ``times`` by side, ``scores`` by side,
        ``same_scores`` (one and two processes to the last bit, the stock toolbox to 1e-9), ``pictures``,
        ``picture_size`` (height, width), ``rounds``.

    Raises:
        RuntimeError: A process failed; its traceback is in the message.
    """
    folder = Path(tempfile.mkdtemp(prefix='benchmark_'))
    scores: dict[str, dict[str, float]] = {}
    inside: dict[str, list[float]] = {ONE: [], TWO: [], STOCK: []}
    try:
        count = write_validation_pictures(folder, pictures)
        with ExitStack() as stack:
            start = stack.enter_context(_processes(folder, features))
            alone = [start(0, 1)]
            pair = [start(rank, 2) for rank in range(2)]

            def candidate(name: str, workers: list[_Worker]) -> Candidate:
                def call() -> None:
                    for worker in workers:
                        worker.send('stock' if name == STOCK else 'ours')
                    answers = [worker.receive() for worker in workers]
                    inside[name].append(max(seconds for seconds, _ in answers))
                    scores[name] = answers[0][1]

                return Candidate(call)

            sides = {ONE: candidate(ONE, alone), TWO: candidate(TWO, pair), STOCK: candidate(STOCK, alone)}
            times_in_turn(sides, rounds, warm_up=1, description='validation')
    finally:
        shutil.rmtree(folder)
    times = {name: each[-rounds:] for name, each in inside.items()}
    seconds = medians(times)
    return {
        'benchmark': 'validation',
        'ratio': seconds[ONE] / seconds[TWO],
        'seconds': seconds,
        'times': times,
        'scores': scores,
        'same_scores': scores[ONE] == scores[TWO]
        and all(abs(scores[ONE][metric] - scores[STOCK][metric]) < _ROUNDING for metric in _METRICS),
        'pictures': count,
        'picture_size': list(WHOLE_PICTURE),
        'features': features,
        'rounds': rounds,
    }


class _Worker:
    """The parent's side of a process that validates on request."""

    def __init__(self, folder: Path, features: int, rank: int, world_size: int) -> None:
        context = SpawnedWorkerContext()
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, folder, features, rank, world_size), daemon=True)
        self.process.start()
        far_end.close()

    def send(self, word: str) -> None:
        self.connection.send(word)

    def receive(self) -> tuple[float, dict[str, float]]:
        """Seconds and scores of one validation."""
        try:
            answer = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f'A validating process ended with status {self.process.exitcode}.') from None
        if isinstance(answer, str):
            raise RuntimeError(f'A validating process failed:\n{answer}')
        return answer

    def end(self) -> None:
        self.connection.close()  # the process ends when the connection is closed
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@contextmanager
def _processes(folder: Path, features: int) -> Iterator[Any]:
    """Yields ``start(rank, world_size)``, which starts a worker of one thread; ends all workers on exit."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, '1'))
    workers: list[_Worker] = []

    def start(rank: int, world_size: int) -> _Worker:
        workers.append(_Worker(folder, features, rank, world_size))
        return workers[-1]

    try:
        yield start
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        for worker in workers:
            worker.end()


# ---- in the process ----


def _serve(connection: Connection, folder: Path, features: int, rank: int, world_size: int) -> None:
    try:
        use_one_thread()
        if world_size > 1:
            distributed.init_process_group(
                'gloo', init_method=(folder / f'group_of_{world_size}').as_uri(), rank=rank, world_size=world_size
            )
        sides = {'ours': _prepare('RestorationModel', folder, features, rank, world_size)}
        if world_size == 1:
            with stock_toolbox():
                sides['stock'] = _prepare('SRModel', folder, features, rank, world_size)
        while True:
            word = connection.recv()
            model, loader = sides[word]
            with stock_toolbox() if word == 'stock' else nullcontext():
                if world_size > 1:
                    distributed.barrier()
                start = time.perf_counter()
                model.validation(loader, current_iter='benchmark', tb_logger=None, save_img=False)
                seconds = time.perf_counter() - start
            connection.send((seconds, {name: float(value) for name, value in model.metric_results.items()}))
    except EOFError:  # no more requests
        if distributed.is_initialized():
            distributed.destroy_process_group()
    except Exception:
        connection.send(traceback.format_exc())


def _prepare(model_type: str, folder: Path, features: int, rank: int, world_size: int) -> tuple[Any, Any]:
    """A model built for testing and a loader, as the toolbox's tester builds them."""
    dataset_opt = {
        'name': 'photographs',
        'type': 'PairedImageDataset',
        'phase': 'test',
        'scale': SCALE,
        'dataroot_gt': str(folder / 'gt'),
        'dataroot_lq': str(folder / 'lq'),
        'io_backend': {'type': 'disk'},
    }
    is_one_of_many = world_size > 1
    torch.manual_seed(0)
    model = build_model(
        {
            'name': 'benchmark',
            'model_type': model_type,
            'scale': SCALE,
            'num_gpu': 0,
            'manual_seed': 0,
            'dist': is_one_of_many,
            'rank': rank,
            'world_size': world_size,
            'is_train': False,
            'datasets': {'test': dataset_opt},
            'network_g': rcan(features),
            'path': {'visualization': str(folder)},
            'val': {'save_img': False, 'suffix': None, 'metrics': _METRICS},
        }
    )
    loader = build_dataloader(
        build_dataset(dataset_opt), dataset_opt, num_gpu=0, dist=is_one_of_many, sampler=None, seed=0
    )
    return model, loader


def table(result: dict[str, Any]) -> str:
    height, width = result['picture_size']
    lines = [
        f'{result["pictures"]} pictures of {height}x{width}, RCAN of {result["features"]} features, PSNR and SSIM, '
        'one thread a process',
        *(
            f'  {name:<28}{seconds:>9.3f} s{result["seconds"][ONE] / seconds:>8.2f} to 1 process   '
            + ', '.join(f'{metric} {value:.6f}' for metric, value in result['scores'][name].items())
            for name, seconds in result['seconds'].items()
        ),
        f'Two processes validate {result["ratio"]:.2f} times as fast as one; '
        + ('all scores are the same.' if result['same_scores'] else 'THE SCORES DIFFER.'),
    ]
    return '\n'.join(lines)
