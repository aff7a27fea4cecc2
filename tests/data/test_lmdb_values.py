"""The values' places in the file, against the lmdb package itself."""

import shutil
from pathlib import Path

import lmdb
import numpy as np
import pytest

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.lmdb_values import MappedValues, UnknownLayout
from pdan_plugin.errors import RequestError


def make(folder: Path, entries: dict[str, bytes], **options: object) -> Path:
    environment = lmdb.open(str(folder), map_size=64 << 20, **options)
    with environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    environment.close()
    return folder / 'data.mdb'


@pytest.mark.parametrize('entries', [0, 1, 40, 3000])  # no page, one page, branches, branches of branches
@pytest.mark.parametrize('largest', [60, 9000])  # inside the pages, and in pages of their own
def test_values_lie_where_lmdb_says(tmp_path: Path, entries: int, largest: int) -> None:
    generator = np.random.default_rng(entries)
    wanted = {
        f'{number // 100:03d}/{number:08d}': generator.bytes(int(generator.integers(0, largest)))
        for number in generator.permutation(entries)
    }
    values = MappedValues(make(tmp_path / 'a.lmdb', wanted))
    assert len(values) == entries
    assert {key: bytes(values[key]) for key in wanted} == wanted
    assert 'other' not in values


def test_what_was_removed_or_written_again_is_the_newest(tmp_path: Path) -> None:
    entries = {f'000/{number:08d}': bytes([number]) * 5000 for number in range(50)}
    file = make(tmp_path / 'a.lmdb', entries)
    environment = lmdb.open(str(tmp_path / 'a.lmdb'), map_size=64 << 20)
    for number in range(0, 50, 3):  # each transaction writes the other of the two meta pages
        with environment.begin(write=True) as transaction:
            transaction.delete(f'000/{number:08d}'.encode())
            transaction.put(b'000/00000001', bytes([number]) * 7000)
    environment.close()
    values = MappedValues(file)
    left = {key: value for key, value in entries.items() if int(key[4:]) % 3} | {'000/00000001': bytes([48]) * 7000}
    assert {key: bytes(values[key]) for key in left} == left
    assert len(values) == len(left)


def test_announced_bytes_are_the_same_bytes(tmp_path: Path) -> None:
    value = np.random.default_rng(0).bytes(100_000)
    values = MappedValues(make(tmp_path / 'a.lmdb', {'a': b'', 'b': value, 'c': b'end'}))
    for start, stop in ((0, 1), (5000, 90_000), (99_999, 100_000), (0, 200_000)):
        values.expect('b', start, stop)
        assert bytes(values['b'][start:stop]) == value[start:stop]
    values.expect('a', 0, 0)


def test_a_page_that_points_at_itself_is_damage(tmp_path: Path) -> None:
    file = make(tmp_path / 'a.lmdb', {f'{number:04d}': bytes(60) for number in range(3000)})
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        if content[page * 4096 + 10] & 1:  # a branch: its first child becomes itself
            node = page * 4096 + int.from_bytes(content[page * 4096 + 16 : page * 4096 + 18], 'little')
            content[node : node + 6] = page.to_bytes(6, 'little')
    file.write_bytes(content)
    with pytest.raises(UnknownLayout, match='by its own count'):
        MappedValues(file)


def test_a_cut_off_or_foreign_file_is_refused(tmp_path: Path) -> None:
    file = make(tmp_path / 'a.lmdb', {f'{number:03d}': bytes(9000) for number in range(50)})
    whole = file.read_bytes()
    for content, message in (
        (whole[:-5000], 'cut off'),
        (whole[: len(whole) // 2], 'cut off'),
        (whole[:100], 'damaged or cut off'),
        (b'', 'empty'),
        (b'SQLite format 3\0' * 600, 'not an LMDB file'),
    ):
        file.write_bytes(content)
        with pytest.raises(UnknownLayout, match=message):
            MappedValues(file)


def test_databases_inside_a_database_are_not_taken_for_frames(tmp_path: Path) -> None:
    environment = lmdb.open(str(tmp_path / 'a.lmdb'), max_dbs=2)
    environment.open_db(b'inside')
    environment.close()
    with pytest.raises(UnknownLayout, match=r"more than plain values \(entry 'inside'"):
        MappedValues(tmp_path / 'a.lmdb' / 'data.mdb')


def test_a_store_that_was_copied_in_part_is_named(small_reds, tmp_path: Path) -> None:
    store = shutil.copytree(small_reds.root / 'bmp' / 'sharp.lmdb', tmp_path / 'part.lmdb')
    whole = (store / 'data.mdb').read_bytes()
    (store / 'data.mdb').write_bytes(whole[: len(whole) - 20_000])
    with pytest.raises(RequestError, match=r'part\.lmdb/data\.mdb: is cut off'):
        FrameStore(store)
    (store / 'data.mdb').write_bytes(whole)
    with (store / 'meta_info.txt').open('a') as lines:
        lines.write('999/00000000.png (96,140,3) 0\n')
    with pytest.raises(RequestError, match="lists 1 frames that are not in the store, such as '999/00000000'"):
        FrameStore(store)


def test_frames_of_another_size_than_listed_are_named(small_reds, tmp_path: Path) -> None:
    for codec in ('bmp', 'png'):
        store = shutil.copytree(small_reds.root / codec / 'sharp.lmdb', tmp_path / f'{codec}.lmdb')
        lines = (store / 'meta_info.txt').read_text()
        (store / 'meta_info.txt').write_text(lines.replace('(96,140,3)', '(960,1400,3)'))
        frames = FrameStore(store)
        frames.expect_crop('000/00000003', 900, 60)
        with pytest.raises(RequestError, match=r"'000/00000003' is 140x96, but meta_info\.txt has \(960, 1400, 3\)"):
            frames.read_crop('000/00000003', 900, 0, 60, 60)
