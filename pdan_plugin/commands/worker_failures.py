"""Explains why the data loader's workers failed, where torch names no option."""

from __future__ import annotations

import contextlib
import os

from pdan_plugin.errors import WorkError
from pdan_plugin.machine.sizes import memory_in_words

_SHARED = '/dev/shm'
# what torch and the system say: words of an error, the cause, and what to do besides fewer workers
_CAUSES = (
    (
        ('shared memory', 'shm', 'unable to write to file </torch', 'Bus error'),
        'the shared memory, through which workers pass batches, is full',
        'give the machine or container more shared memory (docker run --shm-size=8g, or --ipc=host)',
    ),
    (
        ('Too many open files', 'received 0 items of ancdata'),
        'too many files are open: each batch that a worker passes keeps some open',
        'raise the limit (ulimit -n 65536)',
    ),
    (
        ('killed by signal: Killed',),
        'the system killed a worker, as it does when memory runs out',
        'free memory',
    ),
)


def worker_failure(error: RuntimeError) -> WorkError | None:
    """The error for a failure of the data loader's workers, with its cause; None for any other error."""
    text = str(error)
    if 'DataLoader worker' not in text:
        return None
    if error.__cause__ is not None:  # 'exited unexpectedly', while the system's signal arrived
        text = f'{text}\n{error.__cause__}'
    for words, cause, advice in _CAUSES:
        if any(word in text for word in words):
            size = _size_of_shared_memory() if words[0] == 'shared memory' else ''
            reason = text.strip().splitlines()[-1]
            return WorkError(
                f'a data loader worker failed: {cause}{size} ({reason}). Lower datasets.train.num_worker_per_gpu '
                f'(0 reads without workers) or batch_size_per_gpu, or {advice}'
            )
    return None


def _size_of_shared_memory() -> str:
    with contextlib.suppress(OSError, AttributeError):  # another system
        place = os.statvfs(_SHARED)
        return f': {_SHARED} has {memory_in_words(place.f_blocks * place.f_frsize)}'
    return ''
