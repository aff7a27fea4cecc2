"""Makes stores from REDS's folders or zips: the work behind `basicsr prepare-reds`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from pdan_plugin.data.frame_codec import CODECS, picture_checksum
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import FrameStoreWriter, partial_path, read_checksums
from pdan_plugin.data.reds_layout import SHARP, SHARP_BICUBIC, SPLITS, Kind, set_name, store_name
from pdan_plugin.errors import RequestError, WorkError, some_of
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.preparation.bounded_work import in_order
from pdan_plugin.preparation.disk_room import free_room, refuse_too_little_room
from pdan_plugin.preparation.next_command import tell_next
from pdan_plugin.preparation.reds_survey import FoundSet, share_of_reds, survey
from pdan_plugin.preparation.store_tasks import StoreTask
from pdan_plugin.preparation.sub_images import SubImages

_OPTIONS_OF_STORES = {
    'train_sharp': 'datasets:train:dataroot_gt',
    'train_blur_bicubic_x4': 'datasets:train:dataroot_lq',
    'train_sharp_bicubic_x4': 'datasets:train:dataroot_lq_sharp',
    'val_sharp': 'datasets:val:dataroot_gt',
    'val_blur_bicubic_x4': 'datasets:val:dataroot_lq',
}
# val300 is part of val, and `frames: val300` selects it from val's stores: it gets its own stores only on request.
SPLITS_BY_DEFAULT = ('train', 'val')


def prepare_reds(
    source: str | Path,
    target: str | Path,
    *,
    splits: Sequence[str] | None = None,
    codec: str = 'bmp',
    workers: int | None = None,
    verify: bool = False,
    make_sharp_bicubic: bool = False,
    from_zip: bool = False,
    sub_images: tuple[int, int] | None = None,
) -> list[Path]:
    """Make the stores of REDS's splits under TARGET from the folders or zips under SOURCE; returns their paths.

    Finished stores are kept if they hold the source's frames by name and size; unfinished ones are continued. Without
    ``splits``, every split found in SOURCE is used. Memory use: two frames per worker, one batch, and about a kilobyte
    per frame for its names.

    Args:
        verify: Read every frame back and compare its pixels with the checksum of the source's decoded pixels, computed
            when it was stored. A frame without a checksum (in a store made by the toolbox) is compared with its source.
            A source picture changed after it was stored, but not in size, is not noticed.
        from_zip: Read zips even if unpacked folders lie beside them.
        sub_images: (SIZE, STEP) in HR pixels: cut the train split into sub-images (`SubImages`), in separate stores.

    Raises:
        RequestError: Missing, damaged or mismatched frames (all listed), too little space, or another store in the way.
            A store with a bad frame is not put in place; its good frames stay in ``....lmdb.partial`` for the next run.
        WorkError: The disk is full or failed; with ``verify``, a frame differs from what was stored.
    """
    if codec not in CODECS:
        raise RequestError(f'codec must be one of {", ".join(CODECS)}, got {codec!r}')
    if workers is not None and workers < 1:
        raise RequestError(f'workers must be at least 1, got {workers}')
    workers = workers or min(8, usable_cores())
    target = Path(target)
    cut = None if sub_images is None else SubImages(*sub_images)
    if cut is not None and splits is not None and 'train' not in splits:
        raise RequestError(f'sub-images are cut from the train split only, not from {", ".join(splits)}')
    found = _surveyed(Path(source), splits, workers, from_zip)
    tasks = _plan(found, target, codec, cut, make_sharp_bicubic)
    waiting = [task for task in tasks if not _is_finished(task)]
    _check_room(waiting, target, codec)
    wrong: list[str] = []
    for task in tasks:
        if task in waiting:
            wrong += _write(task, workers)
        else:
            print(f'{task.store}: already complete, kept')
    if wrong:
        raise RequestError(
            f'{len(wrong)} frames cannot be read; their stores were not put in place (good frames are kept for the '
            'next run). Replace the frames and run the same command again:\n  ' + '\n  '.join(wrong)
        )
    if verify:
        _verify(tasks, workers)
    for task in tasks:
        size = (task.store / 'data.mdb').stat().st_size
        print(f'{task.store}: {len(FrameStore(task.store).keys)} frames, {disk_in_words(size)}')
    stores = [task.store for task in tasks]
    tell_next('pdan_phase1', 'datasets/REDS', _OPTIONS_OF_STORES, stores)
    return stores


def _surveyed(source: Path, splits: Sequence[str] | None, workers: int, from_zip: bool) -> list[dict[Kind, FoundSet]]:
    """The sets of each split in SOURCE, checked; one error lists the problems of all splits."""
    for split in splits or ():
        if split not in SPLITS:
            raise RequestError(f'no split is called {split!r}; REDS has {", ".join(SPLITS)}')
    result = []
    problems = []
    for split in dict.fromkeys(splits or SPLITS_BY_DEFAULT):
        sharp = set_name(split, SHARP)
        blurred = f'{sharp[:-5]}blur_bicubic'
        try:
            found = survey(source, split, workers=workers, from_zip=from_zip)
        except RequestError as error:
            problems.append(str(error))
            continue
        if found is not None:
            print(share_of_reds(found))
            result.append(found)
        elif splits:
            wanted = f'{sharp}.zip and {blurred}.zip' if from_zip else f'folders or zips called {sharp} and {blurred}'
            problems.append(f'{source}: nothing of {split} here (expected {wanted})')
        else:
            print(f'{split}: nothing of this split under {source}, left out')
    if problems:
        raise RequestError('\n'.join(dict.fromkeys(problems)))
    if not result:
        wanted = 'train_sharp.zip, train_blur_bicubic.zip, val_sharp.zip and so on, here or up to three folders below'
        if not from_zip:
            wanted = 'train/train_sharp/000/00000000.png and so on, or train_sharp.zip and so on'
        raise RequestError(f'{source}: nothing of REDS here (expected {wanted})')
    return result


def _plan(
    splits: list[dict[Kind, FoundSet]],
    target: Path,
    codec: str,
    cut: SubImages | None,
    make_sharp_bicubic: bool,
) -> list[StoreTask]:
    tasks = []
    for found in splits:
        split = found[SHARP].split
        its_cut = cut if split == 'train' else None
        kinds = dict(found)
        if SHARP_BICUBIC not in found:
            if make_sharp_bicubic:
                kinds[SHARP_BICUBIC] = found[SHARP]
            else:
                print(
                    f'{split}: no {set_name(split, SHARP_BICUBIC)} here; REDSPairedDataset then makes lq_sharp from '
                    'the sharp frames as it reads them (leave dataroot_lq_sharp out; --make-sharp-bicubic stores them '
                    'once instead)'
                )
        for kind, one in kinds.items():
            store = target / store_name(split, kind, sub_images=its_cut is not None)
            task = StoreTask(store, one, codec, derived=one.kind is not kind, sub_images=its_cut)
            task.check()
            tasks.append(task)
    if cut is not None and not any(task.sub_images for task in tasks):
        raise RequestError('sub-images are cut from the train split only, and there is nothing of it here')
    return tasks


def _is_finished(task: StoreTask) -> bool:
    if not task.store.exists():
        return False
    store = FrameStore(task.store)
    wanted = task.shapes()
    if store.codec != task.codec or len(store.keys) != len(wanted):
        difference = (
            f'holds {len(store.keys)} frames as {store.codec}, but {task.origin} would give {len(wanted)} as '
            f'{task.codec}'
        )
    else:
        known = set(store.keys)
        other = [key for key, shape in wanted.items() if key not in known or store.shape(key) != shape]
        if not other:
            return True
        difference = (
            f'does not hold the frames of {task.origin}: {some_of(other)} '
            f'{"is" if len(other) == 1 else "are"} missing or of another size'
        )
    raise RequestError(f'{task.store}: {difference}; remove the store to make it again, or choose another TARGET')


def _check_room(tasks: list[StoreTask], target: Path, codec: str) -> None:
    """Print how much will be written, for both codecs; raise an error if there is too little space."""
    totals: dict[str, int] = dict.fromkeys(CODECS, 0)
    for task in tasks:
        there = read_checksums(partial_path(task.store)).keys()
        missing = _missing(task, there)
        sizes = {one: sum(task.bytes_to_write(frame, one) for frame in missing) for one in CODECS}
        for one in CODECS:
            totals[one] += sizes[one]
        (other,) = set(CODECS) - {codec}
        again = f' ({len(there)} frames are there already)' if there else ''
        count = sum(len(task.keys_of(frame)) for frame in missing)
        print(
            f'{task.store}: {count} frames, {_about(task, codec)}{disk_in_words(sizes[codec])} to write as {codec} '
            f'({other}: {_about(task, other)}{disk_in_words(sizes[other])}){again}'
        )
    if tasks:
        free = disk_in_words(free_room(target))
        print(f'{target}: in all {disk_in_words(totals[codec])} to write as {codec}, {free} are free')
    refuse_too_little_room(target, totals[codec], codec, totals['png'])


def _about(task: StoreTask, codec: str) -> str:
    return '' if codec == 'bmp' or task.keeps_source_pngs else 'about '


def _missing(task: StoreTask, there: Iterable[str]) -> list[str]:
    known = set(there)
    return [frame for frame in task.frames if any(key not in known for key in task.keys_of(frame))]


def _write(task: StoreTask, workers: int) -> list[str]:
    """Write the frames that one store lacks; returns the faults of frames that cannot be used."""
    wrong = []
    begun = time.monotonic()
    with FrameStoreWriter(task.store, codec=task.codec, origin=task.origin) as writer:
        unknown = writer.done - {key for frame in task.frames for key in task.keys_of(frame)}
        if unknown:
            raise RequestError(
                f'{partial_path(task.store)}: holds frames that its source no longer has ({some_of(sorted(unknown))}); '
                'remove this folder'
            )
        missing = _missing(task, writer.done)
        kept = len(task.frames) - len(missing)
        with tqdm(total=len(task.frames), initial=kept, desc=task.store.name, unit='frame') as progress:
            for _, answer in in_order(task.values, missing, workers):
                if isinstance(answer, RequestError):
                    wrong.append(str(answer))
                else:
                    for key, value in answer.items():
                        writer.add_encoded(key, value.data, value.shape, value.checksum)
                progress.update()
        if not wrong:
            writer.finish()
    seconds = time.monotonic() - begun
    if missing:
        print(f'{task.store}: {len(missing)} frames in {seconds:.1f} s, {len(missing) / seconds:.1f} a second')
    return wrong


def _verify(tasks: list[StoreTask], workers: int) -> None:
    wrong = []
    without = 0
    for task in tasks:
        store = FrameStore(task.store)
        recorded = read_checksums(task.store)
        plain = [frame for frame in task.frames if any(key not in recorded for key in task.keys_of(frame))]
        if plain:
            print(f'{task.store}: {len(plain)} frames have no stored checksum; they are compared with their source')
            without += len(plain)

        def compare(frame: str, task: StoreTask = task, store: FrameStore = store, recorded=recorded) -> list[str]:
            faults = []
            for key in task.keys_of(frame):
                if key in recorded and picture_checksum(store.read(key)) != recorded[key][1]:
                    faults.append(f'{task.store}: frame {key!r} has changed since it was stored')
            if any(key not in recorded for key in task.keys_of(frame)):
                for key, pixels in task.pixels(frame).items():
                    if key not in recorded and picture_checksum(store.read(key)) != picture_checksum(pixels):
                        faults.append(f'{task.store}: frame {key!r} differs from {task.found.frames.name_of(frame)}')
            return faults

        with tqdm(total=len(task.frames), desc=f'verify {task.store.name}', unit='frame') as progress:
            for _, answer in in_order(compare, task.frames, workers):
                wrong += [str(answer)] if isinstance(answer, RequestError) else answer
                progress.update()
    if wrong:
        raise WorkError(
            f'{len(wrong)} frames failed verification; remove their stores and make them again:\n  '
            + '\n  '.join(wrong)
        )
    by_source = f' ({without} of them compared with their source)' if without else ''
    print(
        f'verified: every frame of {len(tasks)} stores has the pixels its source had when it was stored{by_source}. '
        'The sources were not decoded again: only their names and sizes were checked for later changes'
    )
