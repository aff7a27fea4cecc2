"""REDS's folders or zips to stores: the work behind scripts/prepare_reds.py.

Threads, not processes, share the work: decoding, checksums and compression all run outside Python's lock, nothing has
to be copied between processes, and a killed run leaves no worker behind.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from pdan_plugin.data.frame_codec import CODECS, PictureError, decode_picture, encode_picture, picture_checksum
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import FrameStoreWriter, bytes_on_disk, partial_path, read_checksums
from pdan_plugin.data.reds_layout import SCALE, SHARP, SHARP_BICUBIC, SPLITS, Kind, set_name, store_name
from pdan_plugin.data.reds_survey import FoundSet, Shape, share_of_reds, survey
from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.bicubic import downsample_uint8

NEXT_COMMAND = 'basicsr check -opt options/pdan_phase1.yml'
# val300 is part of val, and `frames: val300` picks it out of val's stores: it is stored apart only on request.
SPLITS_BY_DEFAULT = ('train', 'val')

_Answer = TypeVar('_Answer')


class VerificationError(RuntimeError):
    """A store does not hold what its source holds; lists the frames."""


@dataclass
class Task:
    """One store to make: from a set as it is, or, where ``derived``, from the sharp set made smaller."""

    store: Path
    found: FoundSet
    codec: str
    derived: bool = False

    @property
    def keys(self) -> list[str]:
        return self.found.keys

    @property
    def origin(self) -> str:
        made = f', bicubic 1/{SCALE}' if self.derived else ''
        return f'{self.found.name} in {os.path.realpath(self.found.frames.path)}{made}'

    def shape(self, key: str) -> Shape:
        height, width, channels = self.found.shapes[key]
        return (height // SCALE, width // SCALE, channels) if self.derived else (height, width, channels)

    def picture(self, key: str) -> np.ndarray:
        """The frame as the store is to hold it, (h, w, 3) uint8 RGB; RequestError where the source is damaged."""
        image = self.found.frames.read(key)
        return downsample_uint8(image, SCALE) if self.derived else image

    def encoded(self, key: str) -> tuple[bytes, Shape, str]:
        """Value, shape and checksum. A PNG of the source is kept as it is: it has been decoded, so it is whole."""
        if self.codec == 'png' and not self.derived:
            data = self.found.frames.read_bytes(key)
            try:
                image = decode_picture(data)
            except PictureError as error:
                raise RequestError(f'{self.found.frames.name_of(key)}: {error}') from error
        else:
            image = self.picture(key)
            data = encode_picture(image, self.codec)
        if image.shape != self.shape(key):
            raise RequestError(f'{self.found.frames.name_of(key)}: changed while it was read')
        return data, self.shape(key), picture_checksum(image)

    def value_bytes(self, key: str) -> int:
        """Size of a value; for a derived PNG, an estimate from the HR file's."""
        height, width, _ = self.shape(key)
        if self.codec == 'bmp':
            return 54 + height * ((width * 3 + 3) // 4 * 4)
        size = self.found.frames.size_of(key)
        return int(1.5 * size / SCALE**2) if self.derived else size


def prepare_reds(
    source: str | Path,
    target: str | Path,
    *,
    splits: Sequence[str] | None = None,
    codec: str = 'bmp',
    workers: int | None = None,
    verify: bool = False,
    make_sharp_bicubic: bool = False,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Make the stores of REDS's splits under TARGET from the folders or zips under SOURCE; returns their paths.

    Finished stores are kept, unfinished ones gone on with. Without ``splits``, every split SOURCE has anything of is
    taken. Memory stays bounded whatever the set's size: two frames a worker and one batch.

    Raises:
        RequestError: Missing, damaged or mismatched frames (all named), too little room, a store in the way. Of a store
            with a wrong frame nothing is put in place; its right frames stay in ``....lmdb.partial`` for the next run.
        VerificationError: With ``verify``, a frame read back differs from its source.
    """
    if codec not in CODECS:
        raise RequestError(f'codec must be one of {", ".join(CODECS)}, got {codec!r}')
    if workers is not None and workers < 1:
        raise RequestError(f'workers must be at least 1, got {workers}')
    workers = workers or min(8, os.cpu_count() or 1)
    target = Path(target)
    tasks = _plan(Path(source), target, splits, codec, workers, make_sharp_bicubic, say)
    waiting = [task for task in tasks if not _is_finished(task)]
    _check_room(waiting, target, say)
    wrong: list[str] = []
    for task in tasks:
        if task in waiting:
            wrong += _write(task, workers)
        else:
            say(f'{task.store}: complete already, kept')
    if wrong:
        raise RequestError(
            f'{len(wrong)} frames cannot be read; their stores were not put in place (what was right is kept '
            'for the next run). '
            'Put whole frames in their place and run the same command again:\n  ' + '\n  '.join(wrong)
        )
    if verify:
        for task in tasks:
            _verify(task, workers)
        say(f'verified: every frame of {len(tasks)} stores equals its source')
    for task in tasks:
        size = (task.store / 'data.mdb').stat().st_size
        say(f'{task.store}: {len(task.keys)} frames, {_gigabytes(size)}')
    say(f'Next: {NEXT_COMMAND}')
    return [task.store for task in tasks]


def _plan(
    source: Path,
    target: Path,
    splits: Sequence[str] | None,
    codec: str,
    workers: int,
    make_sharp_bicubic: bool,
    say: Callable[[str], None],
) -> list[Task]:
    for split in splits or ():
        if split not in SPLITS:
            raise RequestError(f'no split is called {split!r}; REDS has {", ".join(SPLITS)}')
    tasks = []
    for split in dict.fromkeys(splits or SPLITS_BY_DEFAULT):
        found = survey(source, split, workers=workers)
        if found is None:
            if splits:
                raise RequestError(
                    f'{source}: nothing of {split} here (expected folders or zips called {set_name(split, SHARP)} and '
                    f'{set_name(split, SHARP)[:-5]}blur_bicubic)'
                )
            say(f'{split}: nothing of it under {source}, left out')
            continue
        say(share_of_reds(found))
        tasks += [Task(target / store_name(split, kind), one, codec) for kind, one in found.items()]
        if SHARP_BICUBIC not in found:
            tasks += _without_sharp_bicubic(
                found, target / store_name(split, SHARP_BICUBIC), codec, make_sharp_bicubic, say
            )
    if not tasks:
        raise RequestError(
            f'{source}: nothing of REDS here (expected train/train_sharp/000/00000000.png and so on, or '
            'train_sharp.zip and so on)'
        )
    return tasks


def _without_sharp_bicubic(
    found: dict[Kind, FoundSet], store: Path, codec: str, wanted: bool, say: Callable[[str], None]
) -> list[Task]:
    sharp = found[SHARP]
    if wanted:
        return [Task(store, sharp, codec, derived=True)]
    say(
        f'{sharp.split}: no {set_name(sharp.split, SHARP_BICUBIC)} here; REDSPairedDataset then makes '
        'lq_sharp from the sharp frames '
        'as it reads them (leave dataroot_lq_sharp out; --make-sharp-bicubic stores them once instead)'
    )
    return []


def _is_finished(task: Task) -> bool:
    if not task.store.exists():
        return False
    store = FrameStore(task.store)
    if store.keys == task.keys and store.codec == task.codec:
        return True
    raise RequestError(
        f'{task.store}: holds {len(store.keys)} frames as {store.codec}, but {task.origin} would give '
        f'{len(task.keys)} as {task.codec}; '
        'remove the store to make it anew, or choose another TARGET'
    )


def _check_room(tasks: list[Task], target: Path, say: Callable[[str], None]) -> None:
    needed = 0
    for task in tasks:
        there = read_checksums(partial_path(task.store))
        size = sum(bytes_on_disk(task.value_bytes(key)) for key in task.keys if key not in there)
        again = f' ({len(there)} frames are there already)' if there else ''
        say(f'{task.store}: {len(task.keys)} frames, about {_gigabytes(size)} to write as {task.codec}{again}')
        needed += size
    folder = target.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        smaller = ' or choose --codec png' if any(task.codec == 'bmp' for task in tasks) else ''
        raise RequestError(
            f'{target}: the stores need {_gigabytes(needed)}, but only {_gigabytes(free)} are free; make '
            f'room, choose another TARGET{smaller}'
        )


def _write(task: Task, workers: int) -> list[str]:
    """Write one store, or what of it is missing; returns what is wrong with frames that cannot be used."""
    wrong = []
    with FrameStoreWriter(task.store, codec=task.codec, origin=task.origin) as writer:
        there = writer.done
        unknown = sorted(there - set(task.keys))
        if unknown:
            raise RequestError(
                f'{partial_path(task.store)}: holds frames its source no longer has '
                f'({", ".join(unknown[:10])}); remove this folder'
            )
        missing = [key for key in task.keys if key not in there]
        with tqdm(total=len(task.keys), initial=len(there), desc=task.store.name, unit='frame') as progress:
            for key, answer in _in_order(task.encoded, missing, workers):
                if isinstance(answer, RequestError):
                    wrong.append(str(answer))
                else:
                    writer.add_encoded(key, *answer)
                progress.update()
        if not wrong:
            writer.finish()
    return wrong


def _verify(task: Task, workers: int) -> None:
    store = FrameStore(task.store)
    recorded = read_checksums(task.store)

    def compare(key: str) -> str | None:
        stored = picture_checksum(store.read(key))
        if key in recorded and stored != recorded[key][1]:
            return f'{task.store}: frame {key!r} has changed since it was stored'
        if stored != picture_checksum(task.picture(key)):
            return f'{task.store}: frame {key!r} differs from {task.found.frames.name_of(key)}'
        return None

    wrong = []
    with tqdm(total=len(task.keys), desc=f'verify {task.store.name}', unit='frame') as progress:
        for _, answer in _in_order(compare, task.keys, workers):
            if answer is not None:
                wrong.append(str(answer))
            progress.update()
    if wrong:
        raise VerificationError(
            f'{len(wrong)} frames do not verify; remove the store and make it again:\n  ' + '\n  '.join(wrong)
        )


def _in_order(
    function: Callable[[str], _Answer], keys: Iterable[str], workers: int
) -> Iterator[tuple[str, _Answer | RequestError]]:
    """``function`` of each key, in the keys' order, with at most two answers a worker waiting to be taken."""

    def answer(key: str) -> _Answer | RequestError:
        try:
            return function(key)
        except RequestError as error:
            return error

    remaining = iter(keys)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[str, Future[_Answer | RequestError]]] = deque(
            (key, pool.submit(answer, key)) for key in islice(remaining, 2 * workers)
        )
        try:
            while waiting:
                key, future = waiting.popleft()
                result = future.result()
                for following in islice(remaining, 1):
                    waiting.append((following, pool.submit(answer, following)))
                yield key, result
        finally:
            pool.shutdown(cancel_futures=True)


def _gigabytes(size: int) -> str:
    return f'{size / 1e9:.1f} GB' if size >= 1e8 else f'{size / 1e6:.1f} MB'
