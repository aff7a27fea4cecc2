"""A file is whole or not there: after kills, on full disks, without permission, with several writers."""

import contextlib
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pdan_plugin.files import whole_files
from pdan_plugin.files.whole_files import (
    folder_written_whole,
    opened_whole,
    remove_left_overs,
    try_writing,
    unfinished_path,
    write_whole,
    written_whole,
)

# The processes import the module alone: it needs nothing else of the package, which takes seconds to import.
KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from whole_files import opened_whole
with opened_whole(sys.argv[1]) as file:
    file.write(b'half of the new')
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
MANY_WRITES = """
import sys
from whole_files import write_whole
for _ in range(200):
    write_whole(sys.argv[1], sys.argv[2].encode() * 100_000)
"""
ANOTHER_USER = 65534


def started(script, *arguments):
    environment = os.environ | {'PYTHONPATH': str(Path(whole_files.__file__).parent)}
    return subprocess.Popen([sys.executable, '-c', script, *arguments], env=environment)


def killed_writer(path):
    assert started(KILLED_BEFORE_THE_RENAME, path).wait() == -signal.SIGKILL


@pytest.fixture
def place(tmp_path):
    """A file with something in it."""
    path = tmp_path / 'record.json'
    path.write_bytes(b'the old')
    return path


@pytest.fixture
def small_files_only():
    """The largest file this process may write stands for the free room of a disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def protected(place):
    """The file, in a folder that may not be written to; root, who may write anywhere, is another user meanwhile."""
    user, folders = os.geteuid(), [place.parent, *place.parent.parents]
    modes = [folder.stat().st_mode for folder in folders]
    place.parent.chmod(0o555)
    if user == 0:
        for folder, mode in zip(folders[1:], modes[1:], strict=True):
            if mode & 0o011 != 0o011:
                folder.chmod(mode | 0o011)  # to be gone through; the other user keeps root's group
        os.seteuid(ANOTHER_USER)
    yield place
    os.seteuid(user)
    for folder, mode in zip(folders, modes, strict=True):
        if folder.stat().st_mode != mode:
            folder.chmod(mode)


@pytest.mark.parametrize('durable', [False, True])
def test_text_bytes_and_paths(tmp_path, durable):
    write_whole(tmp_path / 'new' / 'a.txt', 'é\n', durable=durable)
    write_whole(str(tmp_path / 'a.bin'), b'\0', durable=durable)
    with written_whole(tmp_path / 'a.npy', durable=durable) as unfinished:
        np.save(unfinished, np.arange(3))  # adds .npy to any other ending
        assert not (tmp_path / 'a.npy').exists()
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == b'\xc3\xa9\n'
    assert (tmp_path / 'a.bin').read_bytes() == b'\0'
    assert np.load(tmp_path / 'a.npy').tolist() == [0, 1, 2]
    assert sorted(os.listdir(tmp_path)) == ['a.bin', 'a.npy', 'new']
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / 'a.bin').stat().st_mode) == 0o666 & ~mask


def test_an_exception_leaves_the_old_file_and_nothing_else(place):
    with contextlib.suppress(KeyboardInterrupt), opened_whole(place) as file:
        file.write(b'half')
        raise KeyboardInterrupt
    assert place.read_bytes() == b'the old'
    assert os.listdir(place.parent) == [place.name]


def test_killed_between_write_and_rename(place):
    killed_writer(place)
    assert place.read_bytes() == b'the old'
    assert unfinished_path(place).read_bytes() == b'half of the new'
    write_whole(place, 'new')  # takes the left-over: nothing of it may show
    assert place.read_bytes() == b'new'
    assert os.listdir(place.parent) == [place.name]


def test_left_overs_of_killed_writers_go_and_files_being_written_stay(place):
    killed_writer(place)
    other = place.with_name('other.txt')
    with opened_whole(other) as file:
        file.write(b'now')
        remove_left_overs(place.parent)
        assert sorted(os.listdir(place.parent)) == ['.other.txt.partial', place.name]
    assert other.read_bytes() == b'now'
    remove_left_overs(place.parent / 'no folder')


@pytest.mark.usefixtures('small_files_only')
def test_a_full_disk(place):
    for write in (lambda: write_whole(place, bytes(2000)), lambda: write_whole(place, bytes(1_000_000), durable=True)):
        with pytest.raises(OSError, match='File too large'):
            write()
        assert place.read_bytes() == b'the old'
        assert os.listdir(place.parent) == [place.name]
    with pytest.raises(OSError, match='File too large'), written_whole(place) as unfinished:
        unfinished.write_bytes(bytes(2000))
    assert os.listdir(place.parent) == [place.name]


def test_a_folder_that_may_not_be_written(protected):
    for attempt in (lambda: write_whole(protected, 'new'), lambda: try_writing(protected)):
        with pytest.raises(PermissionError) as raised:
            attempt()
        assert raised.value.filename == str(protected)  # not the hidden name
    assert protected.read_bytes() == b'the old'


def test_a_left_over_that_may_not_be_written_is_passed_by(place, tmp_path):
    """Another user's in a shared folder, a link out of it, a folder."""
    os.symlink(tmp_path / 'elsewhere', unfinished_path(place))
    unfinished_path(place, writer=2).mkdir()
    write_whole(place, 'new')
    assert place.read_bytes() == b'new'
    assert not (tmp_path / 'elsewhere').exists()


def test_a_folder_in_the_place_is_named(tmp_path):
    (tmp_path / 'taken').mkdir()
    with pytest.raises(IsADirectoryError) as raised:
        write_whole(tmp_path / 'taken', 'text')
    assert raised.value.filename == str(tmp_path / 'taken')
    assert os.listdir(tmp_path) == ['taken']


def test_a_trial_leaves_nothing(place):
    try_writing(place)
    try_writing(place.parent / 'new.png')
    assert place.read_bytes() == b'the old'
    assert os.listdir(place.parent) == [place.name]


def test_writers_of_one_process_at_the_same_time(place):
    with opened_whole(place) as first, opened_whole(place) as second:
        assert Path(first.name) != Path(second.name)
        first.write(b'first')
        second.write(b'second')
    assert place.read_bytes() == b'first'  # which ended last
    assert os.listdir(place.parent) == [place.name]


def test_processes_that_write_one_file(tmp_path):
    """Every version that is ever seen is the whole one of a single writer."""
    path = tmp_path / 'a.bin'
    writers = [started(MANY_WRITES, path, letter) for letter in 'abc']
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert len(content) == 100_000
            seen.add(bytes(set(content)))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen <= {b'a', b'b', b'c'}
    assert os.listdir(tmp_path) == ['a.bin']


@pytest.mark.parametrize('name', ['a' * 251 + '.png', '画' * 83 + '.png'])
def test_the_longest_names(tmp_path, name):
    with written_whole(tmp_path / name) as unfinished:
        assert unfinished.suffix == '.png'
        unfinished.write_bytes(b'a picture')
    assert os.listdir(tmp_path) == [name]


def test_a_folder_whole_or_not_at_all(tmp_path):
    target = tmp_path / 'sub' / 'frames'
    with contextlib.suppress(ZeroDivisionError), folder_written_whole(target) as folder:
        (folder / '0.png').write_bytes(b'')
        raise ZeroDivisionError
    assert os.listdir(target.parent) == []
    unfinished_path(target).mkdir()
    (unfinished_path(target) / 'of a killed process').write_bytes(b'')
    for name in ('0.png', '1.png'):
        with folder_written_whole(target) as folder:
            assert os.listdir(folder) == []
            (folder / name).write_bytes(b'')
        assert os.listdir(target) == [name]
    assert os.listdir(target.parent) == ['frames']
