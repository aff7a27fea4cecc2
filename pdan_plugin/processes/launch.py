"""Starts and stops the workers of a run on this machine (``--nproc``)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import cores_of_this_rank
from pdan_plugin.processes.command_start import environment_for_ranks
from pdan_plugin.processes.launchers import launcher_in_environment
from pdan_plugin.training import interruption

# environment variable for workers: the command that started them, as typed
COMMAND = 'PDAN_PLUGIN_COMMAND'
# how long torchrun waits for its workers after a signal before it kills them; supported from torch 2.12 on
_TORCHRUN_GRACE_SECONDS = 120


def check_worker_count(count: int, launcher: str | None, backend: str) -> None:
    """Checks that ``--nproc`` can start that many workers here.

    Raises:
        RequestError: Fewer than one worker; another launcher started this process; or more workers than GPUs with nccl.
    """
    if count < 1:
        raise RequestError(f'--nproc {count}: expected 1 worker or more')
    if launcher not in (None, 'pytorch') or launcher_in_environment() is not None:
        raise RequestError(
            '--nproc starts its own workers and cannot be combined with another launcher: '
            'remove --nproc, or remove --launcher and do not use torchrun or srun'
        )
    gpus = torch.cuda.device_count()
    if gpus and backend == 'nccl' and count > gpus:
        raise RequestError(
            f'--nproc {count}: this machine has {gpus} GPU{"s" if gpus > 1 else ""}, and nccl allows one worker per GPU'
        )


def run_workers(count: int, arguments: Sequence[str], *, command: str, saves_when_stopped: bool) -> int:
    """Runs ``python -m pdan_plugin ARGUMENTS`` in ``count`` workers on this machine through torchrun.

    Workers that save when stopped get the first request as a file, not as a signal: after a signal torchrun kills them
    within 30 seconds (before torch 2.12 always), and an iteration with a save may take longer. A second request, or the
    first to other workers, is a signal. No worker outlives the command. If the command itself is killed, training
    workers save and end; until then torchrun keeps inherited file descriptors, such as a lock.

    Args:
        count: Number of workers.
        arguments: Arguments of the ``basicsr`` command in each worker.
        command: The command as typed, which is saved with the run's options.
        saves_when_stopped: Whether workers save their state when they are asked to stop.

    Returns:
        0, 1 if any worker failed, or 128 plus the number of the signal that stopped them.
    """
    torchrun = [
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node',
        str(count),
        '-m',
        'pdan_plugin',
        *arguments,
    ]
    # torchrun's default is one thread per worker; a CPU run is faster if the workers divide all cores
    threads = str(max(1, cores_of_this_rank() // count))
    # slurm or a service manager may also send torchrun a signal directly
    environment = {
        'OMP_NUM_THREADS': threads, 'TORCH_ELASTIC_SHUTDOWN_TIMEOUT': str(_TORCHRUN_GRACE_SECONDS),
        **environment_for_ranks(), COMMAND: command,
    }  # fmt: skip
    with interruption.launcher_folder() as folder, _requests_raised():
        if saves_when_stopped:
            environment[interruption.LAUNCHER_FOLDER] = str(folder)
        # new session: a terminal's Ctrl-C reaches only this process
        process = subprocess.Popen(torchrun, env=environment, start_new_session=True, close_fds=False)
        try:
            return 1 if process.wait() else 0
        except _Requested as request:
            if not saves_when_stopped:
                _stop(process)
                return 128 + request.number
            interruption.ask_to_stop(folder)
            print(f'\n{interruption.FIRST_ANSWER}', file=sys.stderr, flush=True)
            try:
                return 1 if process.wait() else 128 + request.number
            except _Requested as again:
                _stop(process)
                return 128 + again.number


class _Requested(BaseException):
    """A signal to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _requests_raised() -> Generator[None]:
    """Inside the block, stop signals raise `_Requested` in the main thread. Repeats within seconds are one request.

    The handler itself cannot wait for the workers: it runs inside the interrupted ``process.wait``, which holds the
    lock that a second wait needs.
    """
    last = float('-inf')

    def requested(number: int, _frame: object) -> None:
        nonlocal last
        is_repeat, last = time.monotonic() - last < interruption.ONE_REQUEST_SECONDS, time.monotonic()
        if not is_repeat:
            raise _Requested(number)

    numbers = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]
    previous = {each: signal.getsignal(each) for each in numbers}
    heeded = [each for each in numbers if previous[each] != signal.SIG_IGN]
    for each in heeded:
        signal.signal(each, requested)
    try:
        yield
    finally:
        for each in heeded:
            signal.signal(each, previous[each] or signal.SIG_DFL)


def _stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_TORCHRUN_GRACE_SECONDS + 15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
