"""Messages name the place and the reason, and never list more than a reader takes in."""

import os

import pytest

from pdan_plugin.errors import RequestError, WorkError, failing_unwritable, first_of, refusing_unwritable, some_of


def test_the_first_names_and_how_many_more():
    assert some_of([]) == 'none'
    assert some_of('abc', 3) == 'a, b, c'
    assert some_of(iter('abcde'), 3) == 'a, b, c and 2 more'
    assert some_of('abc', 1, between='; ') == 'a; and 2 more'
    assert some_of('abc', 2, between='\n  ') == 'a\n  b\n  and 1 more'
    assert first_of('abc', 3) == ['a', 'b', 'c']
    assert first_of(iter('abcde'), 3) == ['a', 'b', 'c', '... and 2 more like these']


@pytest.mark.parametrize(('naming', 'kind'), [(refusing_unwritable, RequestError), (failing_unwritable, WorkError)])
def test_what_cannot_be_written(naming, kind, tmp_path):
    (tmp_path / 'file').touch()
    path = tmp_path / 'file' / 'a.txt'
    with pytest.raises(kind) as raised, naming(path):
        path.write_text('')
    assert str(raised.value).startswith(f'{path}: cannot be written: Not a directory; free disk space')
    with pytest.raises(kind, match=r'a.txt: cannot be written: File exists: .*file; '), naming(path):
        os.mkdir(path.parent)
