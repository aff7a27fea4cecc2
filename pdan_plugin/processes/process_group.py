"""Process groups: joining, leaving, and waiting for rank 0."""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import subprocess
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous  # pyright: ignore[reportUnknownVariableType]

from pdan_plugin.errors import RequestError

Result = TypeVar('Result')

_waits = itertools.count()
# timeout of collectives, if the options give one
_timeout: timedelta | None = None
# the default group, and the group for CPU tensors
_cpu_group: tuple[Any, Any] | None = None
# restarts so far, if torchrun's count may differ between machines
_agreed_restarts: int | None = None
_PATIENCE = timedelta(minutes=30)
# limit for leaving the group at exit: it takes milliseconds, or would wait for ever for ranks that do not answer
_LEAVING_SECONDS = 5


def init_dist(launcher: str, backend: str | None = None, **dist_params: Any) -> None:
    """Joins the process group of this process. Does nothing if the process has already joined.

    The start method of data loader workers is not changed; the toolbox sets 'spawn'. Workers only read and augment on
    the CPU, and a fork of a process with a CUDA context is safe if the child makes no CUDA call. A spawned worker
    imports torch and the toolbox again (seconds per worker and epoch). You can still set 'spawn'; `spawned_workers`
    supports it.

    At exit, a process leaves its groups automatically. Otherwise it may die of SIGABRT after all its work is done
    (pytorch #190489; on a busy machine 7 of 25 groups of two ranks did). nccl needs it too: `any_rank` makes a gloo
    group beside the nccl group, and torch warns of an nccl group that was never destroyed.

    Args:
        launcher: 'pytorch' (torchrun's environment variables) or 'slurm' (srun's).
        backend: Default: nccl if there is a CUDA device, else gloo. nccl without a CUDA device, as in the toolbox's
            option files, becomes gloo with a warning.
        dist_params: `port` (used if the environment has no MASTER_PORT; with slurm it replaces MASTER_PORT), `timeout`
            (of collectives, in seconds), and other arguments of `init_process_group`.

    Raises:
        RequestError: Environment variables of the launcher are missing, or slurm cannot name the first node.
    """
    if dist.is_initialized():
        return
    if launcher == 'pytorch':
        _read_torchrun_environment(dist_params.pop('port', None))
    elif launcher == 'slurm':
        _read_slurm_environment(dist_params.pop('port', None))
    else:
        raise RequestError(f"launcher {launcher!r}: expected 'pytorch' or 'slurm'")
    if use_own_gpu():
        backend = backend or 'nccl'
    else:
        if backend == 'nccl':
            warnings.warn('dist_params: backend: nccl needs CUDA devices, found none; gloo is used', stacklevel=2)
        backend = 'gloo' if backend in (None, 'nccl') else backend
    if dist_params.get('timeout') is not None:
        dist_params['timeout'] = timedelta(seconds=float(dist_params['timeout']))
    global _timeout
    _timeout = dist_params.get('timeout')
    if launcher == 'pytorch' and _agents() > 1:
        dist_params |= _meeting_of_several_agents(_timeout or _PATIENCE)
    elif launcher == 'pytorch' and restarts():
        dist_params |= _meeting_of_this_restart(_timeout)
    dist.init_process_group(backend=backend, **dist_params)
    _leave_at_exit()


def use_own_gpu() -> bool:
    """Makes the GPU of this rank the current one, if there is CUDA; returns whether there is.

    A command calls it before anything uses CUDA: every rank would otherwise open a context on the first GPU, some
    hundred MB each. Without a launcher's rank the first GPU stays the current one.
    """
    if not torch.cuda.is_available():
        return False
    rank = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID'))
    if rank is not None:
        # a slurm task may see only its own device, as number 0, with any local rank
        torch.cuda.set_device(int(rank) % torch.cuda.device_count())
    return True


def leave_process_group() -> None:
    """Destroys the groups of this process, if any, and lets their threads end.

    The threads of a gloo group run while anything refers to the group. A DistributedDataParallel network does, and so
    does an exception whose traceback refers to such a network. If a thread still holds a tensor of a finished
    collective when Python ends, the process crashes.
    """
    global _cpu_group
    if dist.is_available() and dist.is_initialized():
        _cpu_group = None
        gc.collect()  # a model has reference cycles
        dist.destroy_process_group()


def _leave_at_exit() -> None:
    """Makes this process leave its groups at exit, and wait for that a few seconds at most.

    The process may have failed in a collective in which other ranks still wait; then leaving takes for ever. So a
    thread does it. The thread starts now: from Python 3.12 on, none can be started at exit.
    """
    exits = threading.Event()

    def leave() -> None:
        exits.wait()
        leave_process_group()

    leaving = threading.Thread(target=leave, name='leave_process_group', daemon=True)
    leaving.start()

    def at_exit() -> None:
        exits.set()
        leaving.join(_LEAVING_SECONDS)

    atexit.register(at_exit)


def restarts() -> int:
    """Number of times that torchrun (`--max-restarts`) restarted this process's group after a worker ended.

    With several machines the ranks agree on the number when they join. Until then it is the count of this machine's
    torchrun.
    """
    if _agreed_restarts is not None:
        return _agreed_restarts
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', '0'))


def _meeting_of_this_restart(timeout: timedelta | None) -> dict[str, Any]:
    """Arguments of `init_process_group` that give this restart its own key prefix.

    torchrun keeps its key-value store over a restart, and newer versions of torch do not separate the keys: a rank
    would read the address of a rank that has died, and fail to connect (pytorch #167288).
    """
    arguments: dict[str, Any] = {} if timeout is None else {'timeout': timeout}
    store, rank, world_size = next(rendezvous('env://', **arguments))
    store = dist.distributed_c10d.PrefixStore(f'pdan_plugin/restart_{restarts()}', store)
    return {'store': store, 'rank': rank, 'world_size': world_size}


def _agents() -> int:
    """Number of torchruns of this group, one per machine; 1 if they keep no key-value store for the workers."""
    keeps_store = os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
    return int(os.environ.get('GROUP_WORLD_SIZE', '1')) if keeps_store else 1


def _meeting_of_several_agents(timeout: timedelta) -> dict[str, Any]:
    """Like `_meeting_of_this_restart`, for several machines.

    There, torchrun's count of restarts cannot be the prefix: each torchrun counts only the deaths of its own workers.
    After one worker has died, the workers of other machines restart with an unchanged count. So rank 0 names and counts
    the starts in the store, which survives them.
    """
    global _agreed_restarts
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        address, port, is_master=False, timeout=timeout
    )
    name, starts = _name_start(store, world_size) if rank == 0 else _join_start(store, rank, timeout)
    _agreed_restarts = starts - 1
    named = dist.distributed_c10d.PrefixStore(f'pdan_plugin/start_{name}', store)
    return {'store': named, 'rank': rank, 'world_size': world_size}


def _name_start(store: Any, world_size: int) -> tuple[str, int]:
    name, starts = uuid.uuid4().hex, store.add('pdan_plugin/starts', 1)
    store.set('pdan_plugin/start', f'{name} {starts}')
    joined = [store.get(f'pdan_plugin/{name}/{rank}').decode() for rank in range(1, world_size)]
    store.set(f'pdan_plugin/{name}/all', json.dumps(['', *joined]))
    return name, starts


def _join_start(store: Any, rank: int, timeout: timedelta) -> tuple[str, int]:
    """Joins the start that rank 0 has confirmed for this process. Any other start in the store is an earlier one."""
    own, give_up = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    while time.monotonic() < give_up:
        name, starts = store.get('pdan_plugin/start').decode().split()
        store.set(f'pdan_plugin/{name}/{rank}', own)
        try:
            store.wait([f'pdan_plugin/{name}/all'], timedelta(seconds=1))
        except RuntimeError as error:
            if 'timeout' not in str(error).lower():
                raise
            continue
        if json.loads(store.get(f'pdan_plugin/{name}/all'))[rank] == own:
            return name, int(starts)
        time.sleep(0.1)
    raise RuntimeError(f'rank {rank} waited {timeout} for rank 0 to join the process group')


def _read_torchrun_environment(port: int | None) -> None:
    if port is not None:
        os.environ.setdefault('MASTER_PORT', str(port))
    missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
    if missing:
        raise RequestError(
            f'--launcher pytorch: the environment has no {", ".join(missing)}; start the command with torchrun, or use '
            '`basicsr train --nproc N`'
        )
    os.environ.setdefault('LOCAL_RANK', '0' if os.environ['WORLD_SIZE'] == '1' else os.environ['RANK'])


def _read_slurm_environment(port: int | None) -> None:
    missing = [name for name in ('SLURM_PROCID', 'SLURM_NTASKS') if name not in os.environ]
    if missing:
        raise RequestError(f'--launcher slurm: the environment has no {", ".join(missing)}; start the run with srun')
    rank = os.environ['SLURM_PROCID']
    if 'MASTER_ADDR' not in os.environ:
        os.environ['MASTER_ADDR'] = _first_slurm_node(os.environ.get('SLURM_NODELIST', ''))
    if port is not None:
        os.environ['MASTER_PORT'] = str(port)
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ['RANK'], os.environ['WORLD_SIZE'] = rank, os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', rank)


def _first_slurm_node(node_list: str) -> str:
    command = ['scontrol', 'show', 'hostname', node_list]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, 'stderr', None) or error
        raise RequestError(
            f'--launcher slurm: `{" ".join(command)}` failed ({reason}); set MASTER_ADDR to the first node'
        ) from error
    if not answer:
        raise RequestError(f'--launcher slurm: `{" ".join(command)}` named no node; set MASTER_ADDR to the first node')
    return answer[0]


def from_rank_zero(function: Callable[[], Result]) -> Result:
    """Calls the function on rank 0 only. Every rank returns its result or raises its exception.

    Without a process group it just calls the function. The result must be picklable.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return function()
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = function()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer, src=0)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. All ranks must call it, and all get the same answer.

    It uses gloo, so with nccl no rank waits for its GPU. Without a process group it returns the flag itself.

    Raises:
        RuntimeError: Another rank has ended.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    answer = torch.tensor([flag], dtype=torch.int32)
    dist.all_reduce(answer, op=dist.ReduceOp.MAX, group=_group_of_cpus())
    return bool(answer.item())


def reduces_on_device(device: torch.device) -> bool:
    """Whether :func:`spread_over_ranks` takes a flag on this device without a wait of the host."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return True
    return device.type == 'cuda' and dist.get_backend() == 'nccl'


def spread_over_ranks(flag: torch.Tensor) -> None:
    """Sets a flag (0 or 1) of each rank to 1 if it is 1 on any rank. All ranks must call it.

    With nccl the GPUs exchange it, and no host waits. Without a process group the flag stays as it is.
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)


def _group_of_cpus() -> Any:
    """The default group if it uses gloo, else a gloo group of the same ranks, created once per default group."""
    global _cpu_group
    default = dist.group.WORLD
    if _cpu_group is None or _cpu_group[0] is not default:
        beside = default if dist.get_backend() == 'gloo' else dist.new_group(backend='gloo', timeout=_timeout)
        _cpu_group = default, beside
    return _cpu_group[1]


def wait_for_rank_zero() -> None:
    """Waits without a time limit until rank 0 also calls it. Every rank must call it.

    A barrier fails after the group's timeout (10 to 30 minutes), so this waits for a key in the group's key-value
    store. If the store's process (the launcher or rank 0) ends, the wait ends with an error.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    store = dist.distributed_c10d._get_default_store()  # pyright: ignore[reportPrivateUsage]
    key = f'pdan_plugin/rank_zero_is_here/{next(_waits)}'
    if dist.get_rank() == 0:
        store.set(key, '1')
        return
    while True:
        try:
            store.wait([key], timedelta(minutes=1))
            return
        except RuntimeError as error:  # torch has its own class of store errors only from 2.3 on
            if 'timeout' not in str(error).lower():
                raise
