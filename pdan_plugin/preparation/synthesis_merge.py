"""Merges the shards of a synthesis into the stores and the record that one unsharded run would have made."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
from tqdm import tqdm

from pdan_plugin.data.frame_codec import PictureError, decode_picture, picture_checksum
from pdan_plugin.data.frame_store_writer import Record, bytes_on_disk, read_checksums
from pdan_plugin.data.reds_layout import KINDS, Kind
from pdan_plugin.errors import RequestError, WorkError, refusing_unwritable, some_of
from pdan_plugin.machine.sizes import disk_in_words
from pdan_plugin.preparation.blur_synthesis import shard_folder, tell_stores, tell_training
from pdan_plugin.preparation.disk_room import refuse_too_little_room
from pdan_plugin.preparation.sample_stores import Encoded, Sample, SampleStores, keys_there, store_paths
from pdan_plugin.preparation.synthesis_record import (
    RECORD,
    Progress,
    differences,
    merged_results,
    origin,
    read_record,
    without_results,
)

_FRAMES_BETWEEN_COMMITS = 200
_SHARD = re.compile(r'shard_(\d+)_of_(\d+)')


def merge_shards(target: str | Path) -> list[Path]:
    """Copy the stores of ``TARGET/shard_*_of_N`` into TARGET's stores; returns their paths. The shards stay in place.

    Each picture is decoded and compared with its checksum. A killed merge continues when it is called again.

    Raises:
        RequestError: Shards are missing or unfinished, or their settings or sources differ from the first shard's;
            TARGET holds something else, or has too little space.
        WorkError: A frame of a shard is damaged, or the disk failed.
    """
    target = Path(target)
    shards = _shards(target)
    records = _records(target, shards)
    description = {key: value for key, value in without_results(records[0]).items() if key != 'shard'}
    split, codec = description['settings']['split'], description['settings']['codec']
    progress = Progress(target, description)
    if progress.is_finished():
        print(f'{target}: already complete, kept')
    else:
        there = keys_there(target, split)
        journals = [
            {kind: read_checksums(path) for kind, path in store_paths(shard, split).items()} for shard in shards
        ]
        keys = _keys(shards, records, journals)
        share = 1 - len(there & keys) / len(keys)
        sizes = [path.stat().st_size for shard in shards for path in _data_files(shard, split)]
        needed = int(share * sum(sizes)) + bytes_on_disk(0)
        print(f'{target}: {len(keys)} frames of {len(shards)} shards, about {disk_in_words(needed)} to copy')
        refuse_too_little_room(target, needed, codec)
        with refusing_unwritable(str(target)):
            progress.begin()
        with SampleStores(target, split, codec=codec, origin=origin(description)) as stores:
            if not stores.begun <= keys:
                raise RequestError(f'{target}: the stores begun here hold frames that no shard has; remove them')
            with tqdm(total=len(keys), initial=len(stores.done), desc='merging', unit='frame') as bar:
                for shard, journal in zip(shards, journals, strict=True):
                    _copy(shard, split, journal, stores, bar)
            stores.finish(keys)
        progress.finish(merged_results(records))
    paths = list(store_paths(target, split).values())
    tell_stores(paths)
    print(f'The shards are still there: {target / "shard_*"} may be removed')
    tell_training(paths)
    return paths


def _shards(target: Path) -> list[Path]:
    """All the shards, in order."""
    counts = {int(match[2]) for path in target.glob('shard_*_of_*') if (match := _SHARD.fullmatch(path.name))}
    if not counts:
        raise RequestError(f'{target}: no shards here (expected {target / "shard_1_of_N"}, made with --shard 1/N)')
    if len(counts) > 1:
        listed = ' and '.join(map(str, sorted(counts)))
        raise RequestError(f'{target}: holds shards of {listed}; keep only the shards of one synthesis')
    count = counts.pop()
    return [shard_folder(target, (number, count)) for number in range(1, count + 1)]


def _records(target: Path, shards: list[Path]) -> list[dict[str, Any]]:
    unfinished = [shard.name for shard in shards if not (shard / RECORD).exists()]
    if unfinished:
        numbers = some_of((name.replace('shard_', '').replace('_of_', '/') for name in unfinished), 20)
        raise RequestError(f'{target}: {len(unfinished)} shards are not finished; run --shard {numbers} (again)')
    records = [read_record(shard / RECORD) for shard in shards]
    described = [without_results(record) | {'shard': None} for record in records]
    for shard, one in zip(shards, described, strict=True):
        unlike = differences(described[0], one)
        if unlike:
            raise RequestError(
                f'{shard.name} differs from {shards[0].name}: {some_of(unlike, between="; ")}. Make it again'
            )
    return records


def _keys(shards: list[Path], records: list[dict[str, Any]], journals: list[dict[Kind, dict[str, Record]]]) -> set[str]:
    """The keys of all shards; raises RequestError if a shard's stores do not match its record."""
    keys: set[str] = set()
    for shard, record, journal in zip(shards, records, journals, strict=True):
        own = set(journal[KINDS[0]])
        if any(set(journal[kind]) != own for kind in KINDS) or len(own) != record['frames'] or own & keys:
            raise RequestError(f'{shard}: its stores do not match its {RECORD}; remove this shard and make it again')
        keys |= own
    if not keys:
        raise RequestError('no shard holds a frame: every window touches a scene cut; raise --cut-threshold')
    return keys


def _data_files(shard: Path, split: str) -> Iterator[Path]:
    for path in store_paths(shard, split).values():
        if not (path / 'data.mdb').is_file():
            raise RequestError(f'{path}: no store here; remove {shard / RECORD} and make the shard again')
        yield path / 'data.mdb'


def _copy(shard: Path, split: str, journal: dict[Kind, dict[str, Record]], stores: SampleStores, bar: tqdm) -> None:
    done = stores.done
    missing = sorted(set(journal[KINDS[0]]) - done)
    environments = {
        kind: lmdb.open(str(path), readonly=True, lock=False, readahead=False)
        for kind, path in store_paths(shard, split).items()
    }
    try:
        for number, key in enumerate(missing, 1):
            stores.add(
                Sample(key, {kind: _verified(shard, kind, key, environments[kind], journal[kind]) for kind in KINDS})
            )
            bar.update()
            if number % _FRAMES_BETWEEN_COMMITS == 0:
                stores.commit()
    finally:
        for environment in environments.values():
            environment.close()


def _verified(shard: Path, kind: Kind, key: str, environment: lmdb.Environment, journal: dict[str, Record]) -> Encoded:
    with environment.begin() as transaction:
        data = transaction.get(key.encode(), b'')
    shape, checksum = journal[key]
    try:
        whole = picture_checksum(decode_picture(data)) == checksum
    except PictureError:
        whole = False
    if not whole:
        raise WorkError(
            f'{shard}: frame {key!r} of {kind.folder} is damaged: it does not match its checksum; remove this shard '
            'and make it again (frames already merged are kept)'
        )
    return Encoded(data, shape, checksum)
