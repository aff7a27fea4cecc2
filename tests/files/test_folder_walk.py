"""Which files below a folder are found."""

import os

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.files.folder_walk import files_below


def test_hidden_and_stray_ones_are_left_out(tmp_path):
    for name in ('b.png', 'a.png', 'in/c.png', '.hidden.png', '.thumbnails/d.png', 'in/@eaDir/c.png/thumb.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ['a.png', 'b.png', 'in/c.png']


def test_links_are_followed_or_collected_and_one_folder_is_left_out(tmp_path):
    for name in ('here/a.png', 'here/out/b.png', 'there/c.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    here, links = tmp_path / 'here', []
    (here / 'link').symlink_to(tmp_path / 'there')
    assert list(files_below(here, without=here / 'out')) == [here / 'a.png', here / 'link/c.png']
    assert list(files_below(here, links=links)) == [here / 'a.png', here / 'out/b.png']
    assert links == [here / 'link']


def test_links_in_a_circle_are_named(tmp_path):
    for name, other in (('one', 'two'), ('two', 'one')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'link').symlink_to(tmp_path / other)
    with pytest.raises(RequestError, match='one/link/link: this link leads to a folder that it lies in'):
        list(files_below(tmp_path))


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    """A mock of the system's answer: to root every folder is open."""
    (tmp_path / 'open').mkdir()
    (tmp_path / 'closed').mkdir()
    scandir = os.scandir

    def refusing(folder):
        if str(folder).endswith('closed'):
            raise PermissionError(13, 'Permission denied', str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, 'scandir', refusing)
    with pytest.raises(RequestError, match='closed: this folder cannot be read: Permission denied'):
        list(files_below(tmp_path))
