"""Finds what started this process: no launcher, torchrun or srun. Uses the standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pdan_plugin.errors import RequestError

LAUNCHERS = ('none', 'pytorch', 'slurm')


@dataclass(frozen=True)
class Group:
    """The processes of one run: the toolbox's name of the launcher, this process's rank, and the number of ranks."""

    launcher: str
    rank: int
    world_size: int


def find_group(launcher: str | None) -> Group:
    """The group in which this process was started.

    Args:
        launcher: The toolbox's name of the launcher; None uses torchrun or srun if one of them started this process.

    Raises:
        RequestError: The given launcher did not start this process.
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
            f'process. Start it with {starter}, or on one machine use --nproc N in place of --launcher'
        )
    return Group(launcher, int(os.environ[rank_name]), int(os.environ[size_name]))


def launcher_in_environment() -> str | None:
    """The launcher that started this process, found from environment variables; None for no group."""
    if all(name in os.environ for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR')):
        return 'pytorch'
    # the step of a batch script has the SLURM_NTASKS of the job but is a single task
    tasks = os.environ.get('SLURM_STEP_NUM_TASKS') or os.environ.get('SLURM_NTASKS') or '1'
    if 'SLURM_PROCID' in os.environ and int(tasks) > 1:
        return 'slurm'
    return None


def speaks_for_its_machine() -> bool:
    """Whether this process reports errors that all ranks of its machine have in common.

    The first rank of each machine does, because an error, such as missing data, may affect only one machine.
    """
    return os.environ.get('RANK', '0') == '0' or os.environ.get('LOCAL_RANK', '0') == '0'
