"""Who started this process: nobody, torchrun or srun. Needs the standard library alone."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pdan_plugin.errors import RequestError

LAUNCHERS = ('none', 'pytorch', 'slurm')


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


def launcher_in_environment() -> str | None:
    """Whose process group this process was started in, by its environment variables; None for no group."""
    if all(name in os.environ for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR')):
        return 'pytorch'
    # a batch script's own step has the job's SLURM_NTASKS but is one task
    tasks = os.environ.get('SLURM_STEP_NUM_TASKS') or os.environ.get('SLURM_NTASKS') or '1'
    if 'SLURM_PROCID' in os.environ and int(tasks) > 1:
        return 'slurm'
    return None


def speaks_for_its_machine() -> bool:
    """Whether this process reports what all ranks of its machine find alike.

    The first rank of each machine does: another machine may lack the data.
    """
    return os.environ.get('RANK', '0') == '0' or os.environ.get('LOCAL_RANK', '0') == '0'
