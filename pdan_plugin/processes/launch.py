"""Starting the workers of a run on this machine (``--nproc``), and stopping them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.cores import cores_of_this_rank
from pdan_plugin.processes.launchers import launcher_in_environment
from pdan_plugin.training import interruption

# the environment variable by which workers know the command that started them, as it was typed
COMMAND = 'PDAN_PLUGIN_COMMAND'
# how long torchrun waits for its workers after a signal before it kills them; torch 2.12 and later take it
_TORCHRUN_GRACE_SECONDS = 120


def check_worker_count(count: int, launcher: str | None, backend: str) -> None:
    """Whether ``--nproc`` can start that many workers here.

    Raises:
        RequestError: Fewer than one; a process of another launcher's group; or more workers than GPUs under nccl.
    """
    if count < 1:
        raise RequestError(f'--nproc {count}: expected 1 worker or more')
    if launcher not in (None, 'pytorch') or launcher_in_environment() is not None:
        raise RequestError(
            '--nproc starts its own workers, so it does not go with another launcher: '
            'leave out --nproc, or --launcher and torchrun or srun'
        )
    gpus = torch.cuda.device_count()
    if gpus and backend == 'nccl' and count > gpus:
        raise RequestError(
            f'--nproc {count}: this machine has {gpus} GPU{"s" if gpus > 1 else ""}, and nccl takes one worker a GPU'
        )


def run_workers(count: int, arguments: Sequence[str], *, command: str, saves_when_stopped: bool) -> int:
    """Run ``python -m pdan_plugin ARGUMENTS`` in ``count`` workers on this machine through torchrun.

    Workers that save when they are stopped are asked to by a file and not by a signal: torchrun answers a signal by
    killing them after 30 seconds (before torch 2.12 always), which an iteration and a save may outlast. A second
    request, or the first to other workers, is the signal. No worker outlives the command; should it be killed itself,
    training workers save and end, and torchrun holds what it was given to hold (an inherited lock) until they have.

    Args:
        count: Of workers.
        arguments: Of the ``basicsr`` command that each worker is.
        command: The command as it was typed, which a run notes beside its options.
        saves_when_stopped: Whether workers save their state when they are asked to stop.

    Returns:
        0, 1 when any worker failed, or 128 and the number of the signal that stopped them.
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
    # torchrun would give each worker one thread; the cores shared out serve a CPU run better
    threads = str(max(1, cores_of_this_rank() // count))
    # a signal may also reach torchrun by itself, from slurm or a service manager
    environment = {
        'OMP_NUM_THREADS': threads, 'TORCH_ELASTIC_SHUTDOWN_TIMEOUT': str(_TORCHRUN_GRACE_SECONDS), **os.environ,
        COMMAND: command,
    }  # fmt: skip
    with interruption.launcher_folder() as folder, _requests_raised():
        if saves_when_stopped:
            environment[interruption.LAUNCHER_FOLDER] = str(folder)
        # in a session of its own: a terminal's Ctrl-C comes to this process alone
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
def _requests_raised() -> Iterator[None]:
    """While it lasts, signals to stop raise `_Requested` where the process is; repeats of a moment are one request.

    The workers cannot be waited for in the handler itself: it runs inside the wait that it interrupts, which holds the
    lock of the process it waits for.
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


def _stop(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_TORCHRUN_GRACE_SECONDS + 15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
