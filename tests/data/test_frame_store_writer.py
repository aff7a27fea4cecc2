"""Stores written in any order, in parts or interrupted are the same; and what a reader of `done` may rely on."""

import errno
import json
import locale
import multiprocessing
import os
import random
from pathlib import Path

import numpy as np
import pytest
from reds_tree import stored

from pdan_plugin.data.frame_store_writer import FrameStoreWriter, partial_path, read_checksums
from pdan_plugin.data.reds_layout import is_val300
from pdan_plugin.errors import RequestError, WorkError


@pytest.fixture(scope='module')
def frames() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (30, 16, 20, 3), np.uint8)
    return {f'{number % 3:03d}/{number:08d}': picture for number, picture in enumerate(noise)}


def write(path: Path, frames: dict[str, np.ndarray], keys: list[str], parts: int = 1) -> Path:
    for part in range(parts):
        with FrameStoreWriter(path) as writer:
            for key in keys[part::parts]:
                writer.add(key, frames[key])
    with FrameStoreWriter(path) as writer:
        writer.finish()
    return path


def test_the_order_and_number_of_parts_do_not_matter(tmp_path: Path, frames) -> None:
    shuffled = random.Random(1).sample(sorted(frames), len(frames))
    one = stored(write(tmp_path / 'one.lmdb', frames, sorted(frames)))
    assert stored(write(tmp_path / 'other.lmdb', frames, shuffled, parts=4)) == one
    keys = [line.split()[0] for line in one['checksums.txt'].decode().splitlines()]
    assert keys == sorted(frames)
    assert sorted(path.name for path in (tmp_path / 'one.lmdb').iterdir()) == [
        'checksums.txt',
        'data.mdb',
        'meta_info.txt',
    ]


def test_done_follows_what_is_added(tmp_path: Path, frames) -> None:
    key, other = sorted(frames)[:2]
    with FrameStoreWriter(tmp_path / 'a.lmdb') as writer:
        done = writer.done
        writer.add(key, frames[key])
        assert key in done
        assert other not in done
        writer.commit()
        assert done == {key}
        assert read_checksums(partial_path(tmp_path / 'a.lmdb')).keys() == {key}


def end_after(kind: str, name: str, path: Path, frames: dict[str, np.ndarray]) -> None:
    """In a process of its own: end it, without a chance to tidy up, once a file or folder has got its name."""
    place = Path if kind == 'rename' else os  # Python 3.10's Path.rename does not look os.rename up
    real = getattr(place, kind)

    def renamed(source: Path, target: Path) -> None:
        real(source, target)
        if Path(target).name == name:
            os._exit(9)

    with FrameStoreWriter(path, origin='here') as writer:
        for key in sorted(frames, reverse=True):
            writer.add(key, frames[key])
        writer.commit()
        setattr(place, kind, renamed)
        writer.finish()


@pytest.mark.parametrize('step', ['meta_info.txt', 'checksums.txt', 'rename'])
def test_an_end_at_any_step_of_finishing_is_finished_by_the_next(tmp_path: Path, frames, step: str) -> None:
    whole = stored(write(tmp_path / 'whole.lmdb', frames, sorted(frames)))
    path = tmp_path / 'ended.lmdb'
    kind, name = ('rename', path.name) if step == 'rename' else ('replace', step)
    process = multiprocessing.get_context('fork').Process(target=end_after, args=(kind, name, path, frames))
    process.start()
    process.join()
    assert process.exitcode == 9
    if step == 'rename':
        assert not partial_path(path).exists()
    else:
        assert json.loads((partial_path(path) / 'origin.json').read_text())['origin'] == 'here'
        with pytest.raises(RequestError, match='begun with codec bmp from here'):
            FrameStoreWriter(path, origin='there')
        with FrameStoreWriter(path, origin='here') as writer:
            assert writer.done == frames.keys()
            writer.finish()
    assert stored(path) == whole


def test_two_writers_never_meet_also_while_one_finishes(tmp_path: Path, frames, monkeypatch) -> None:
    path = tmp_path / 'a.lmdb'
    refused = []

    def meanwhile(folder: Path) -> None:
        with pytest.raises(RequestError) as raised:
            FrameStoreWriter(path)
        refused.append(str(raised.value))

    monkeypatch.setattr('pdan_plugin.data.frame_store_writer.flush_folder', meanwhile)
    write(path, frames, sorted(frames))
    assert ['another process is writing it' in refused[0], 'already exists' in refused[1]] == [True, True]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, frames) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(RequestError, match='cannot be written'):
        FrameStoreWriter(tmp_path / 'file' / 'a.lmdb')
    folder = partial_path(tmp_path / 'b.lmdb')
    folder.mkdir()
    (folder / 'data.mdb').write_bytes(b'no database' * 1000)
    with pytest.raises(RequestError, match='remove this folder'):
        FrameStoreWriter(tmp_path / 'b.lmdb')


def test_a_file_system_that_cannot_lock_is_told_from_another_writer(tmp_path: Path, monkeypatch) -> None:
    fcntl = pytest.importorskip('fcntl')

    def no_locks(*words: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, 'flock', no_locks)
    with pytest.raises(RequestError, match='does not support locks; choose a TARGET on a local disk') as raised:
        FrameStoreWriter(tmp_path / 'a.lmdb')
    assert os.strerror(errno.ENOLCK) in str(raised.value)
    assert 'another process' not in str(raised.value)


def test_names_outside_ascii_need_no_locale(tmp_path: Path, frames) -> None:
    picture = frames['000/00000000']
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, 'C')
    try:
        for _ in range(2):  # the second finds what the first left
            with FrameStoreWriter(tmp_path / 'a.lmdb', origin='Straße') as writer:
                writer.add('Straße/00000000', picture)
        with FrameStoreWriter(tmp_path / 'a.lmdb', origin='Straße') as writer:
            assert writer.done == {'Straße/00000000'}
            writer.finish()
        assert read_checksums(tmp_path / 'a.lmdb').keys() == {'Straße/00000000'}
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    for name in ('meta_info.txt', 'checksums.txt'):
        assert (tmp_path / 'a.lmdb' / name).read_text(encoding='utf-8').startswith('Straße/00000000')


def test_a_full_disk_loses_only_what_was_not_committed(tmp_path: Path, frames) -> None:
    resource = pytest.importorskip('resource')
    first, *others = sorted(frames)
    path = tmp_path / 'a.lmdb'
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FrameStoreWriter(path) as writer:
        writer.add(first, frames[first])
        writer.commit()
        for key in others:
            writer.add(key, frames[key])
        size = (partial_path(path) / 'data.mdb').stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, before[1]))
        with pytest.raises(WorkError, match='the disk is full or fails'):
            writer.commit()
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert writer.done == {first}
    with FrameStoreWriter(path) as writer:
        assert writer.done == {first}
        for key in others:
            writer.add(key, frames[key])
        writer.finish()
    assert stored(path) == stored(write(tmp_path / 'b.lmdb', frames, sorted(frames)))


@pytest.mark.parametrize(
    ('key', 'among'),
    [
        ('000/00000009', True),
        ('000/00000010', False),
        ('000/00000019_s003', True),
        ('000/00000018_s009', False),
        ('street/img_0009', False),
    ],
)
def test_val300_is_told_from_any_key(key: str, among: bool) -> None:
    assert is_val300(key) is among
