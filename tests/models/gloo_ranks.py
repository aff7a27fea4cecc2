"""Several ranks on this machine, each a process of its own, forked from a server that has imported torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as distributed
from warm_processes import warm_context

from pdan_plugin.processes.process_group import leave_process_group

_PATIENCE = 600  # seconds; a guard against hanging, on a machine with other work


def answers_of_ranks(work: Callable[[dict, int], Any], world_size: int, folder: Path, opt: dict) -> list:
    """What `work(options of the rank, rank)` returns, in the order of the ranks."""
    context = warm_context()
    ranks, answers = [], []
    try:
        for rank in range(world_size):
            receiving, sending = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(work, rank, world_size, folder / 'store', opt, sending))
            process.start()
            sending.close()  # the rank's end alone is open now: if it dies, there is an end of file
            ranks.append(process)
            answers.append(receiving)
        results = []
        for rank, answer in enumerate(answers):
            assert answer.poll(_PATIENCE), f'no answer of rank {rank} in {_PATIENCE} s'
            results.append(answer.recv())
        for process in ranks:
            process.join(_PATIENCE)
        assert [process.exitcode for process in ranks] == [0] * world_size
        return results
    finally:
        for process in ranks:
            process.kill()
            process.join()


def _rank(work, rank, world_size, store, opt, answer):
    distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world_size)
    answer.send(work(opt | {'dist': True, 'rank': rank, 'world_size': world_size}, rank))
    distributed.barrier()
    leave_process_group()
