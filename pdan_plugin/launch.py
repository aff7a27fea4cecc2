"""The process group a command runs in: started here with ``--nproc``, or joined under torchrun or slurm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.options import launcher_in_environment

LAUNCHERS = ('none', 'pytorch', 'slurm')
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class Group:
    """The processes of one run: the toolbox's launcher word, this process's rank, and how many there are."""

    launcher: str
    rank: int
    world_size: int


def find_group(launcher: str | None) -> Group:
    """The group this process was started in.

    Args:
        launcher: The toolbox's word; None joins the group torchrun or srun made, if one of them started this process.

    Raises:
        RequestError: The launcher named did not start this process.
    """
    launcher = launcher or launcher_in_environment() or 'none'
    if launcher == 'none':
        return Group('none', 0, 1)
    rank_name, size_name = {'pytorch': ('RANK', 'WORLD_SIZE'), 'slurm': ('SLURM_PROCID', 'SLURM_NTASKS')}[launcher]
    missing = [name for name in (rank_name, size_name) if name not in os.environ]
    if missing:
        starter = 'torchrun' if launcher == 'pytorch' else 'srun'
        raise RequestError(
            f'--launcher {launcher}: {", ".join(missing)} not set, so {starter} did not start this '
            f'process. Start it with {starter}, or on one machine leave --launcher out and use '
            '--nproc N'
        )
    return Group(launcher, int(os.environ[rank_name]), int(os.environ[size_name]))


def check_worker_count(count: int, launcher: str | None, backend: str) -> None:
    """Whether ``--nproc`` can start that many workers here.

    Raises:
        RequestError: Fewer than one; a process of another launcher's group; or more workers than GPUs under nccl.
    """
    if count < 1:
        raise RequestError(f'--nproc {count}: expected 1 worker or more')
    if launcher not in (None, 'pytorch') or find_group(None).launcher != 'none':
        raise RequestError(
            '--nproc starts its own workers, so it does not go with another launcher: '
            'leave out --nproc, or --launcher and torchrun or srun'
        )
    gpus = torch.cuda.device_count()
    if gpus and backend == 'nccl' and count > gpus:
        raise RequestError(
            f'--nproc {count}: this machine has {gpus} GPU{"s" if gpus > 1 else ""}, and nccl takes one worker a GPU'
        )


def run_workers(count: int, arguments: Sequence[str]) -> int:
    """Run ``python -m pdan_plugin ARGUMENTS`` in ``count`` workers on this machine through torchrun.

    Interrupt and termination are handed on, so that no worker outlives the command.

    Returns:
        torchrun's exit status: 0, or 1 when any worker failed.
    """
    command = [
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
    # torchrun would give each worker one thread; the machine's cores shared out serve a CPU run better
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = {'OMP_NUM_THREADS': threads, **os.environ}
    process = subprocess.Popen(command, env=environment)
    with _termination_raised():
        try:
            return process.wait()
        except KeyboardInterrupt:
            _stop(process, signal.SIGINT)
            raise
        except _Terminated as termination:
            _stop(process, signal.SIGTERM)
            raise SystemExit(128 + signal.SIGTERM) from termination


class _Terminated(BaseException):
    """SIGTERM, as an exception."""


@contextmanager
def _termination_raised() -> Iterator[None]:
    """While it lasts, SIGTERM raises `_Terminated` where the process is, as SIGINT raises KeyboardInterrupt.

    The workers cannot be waited for in the handler itself: it runs inside the wait that it interrupts, which holds the
    lock of the process it waits for.
    """

    def terminated(_number: int, _frame: object) -> None:
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(process: subprocess.Popen, number: int) -> None:
    process.send_signal(number)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
