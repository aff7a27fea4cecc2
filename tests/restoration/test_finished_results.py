"""What of an earlier run counts as done: the same source, restored in the same way, whole."""

import hashlib
import json
import os
import time

import numpy as np
import pytest
from folder_contents import names_in
from PIL import Image
from repeating_network import make_weights, repeated

from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import unfinished_path
from pdan_plugin.restoration import restore_path


def test_a_folder_half_done_goes_on(weights, source, tmp_path, capsys):
    out = tmp_path / 'out'
    restore_path(source, out, weights)
    (out / 'clip/grey.png').unlink()
    unfinished_path(out / 'clip/grey.png', '.png').write_bytes(b'killed here')
    before = (out / 'a.png').stat().st_mtime_ns
    capsys.readouterr()
    assert restore_path(source, out, weights) == 1
    assert '1 already done' in capsys.readouterr().out
    assert names_in(out) == ['a.png', 'clip/grey.png', 'restore.json']
    assert (out / 'a.png').stat().st_mtime_ns == before
    later = time.time() + 5
    os.utime(source / 'a.png', (later, later))  # a source changed since is restored again
    restore_path(source, out, weights)
    assert (out / 'a.png').stat().st_mtime_ns > before


def test_a_result_that_was_emptied_is_made_again(weights, source, tmp_path, capsys):
    out = tmp_path / 'out'
    restore_path(source, out, weights)
    whole = (out / 'a.png').read_bytes()
    (out / 'a.png').write_bytes(b'')
    capsys.readouterr()
    restore_path(source, out, weights)
    assert (out / 'a.png').read_bytes() == whole
    assert '1 already done' in capsys.readouterr().out


def test_results_of_other_weights_are_not_taken_for_these(weights, source, photo, tmp_path):
    out, darker = tmp_path / 'out', make_weights(tmp_path, 'darker', gain=0.5)
    (source / 'text.png').unlink()
    assert restore_path(source, out, weights) == 0
    with pytest.raises(RequestError, match=r'made with other settings, such as a\.png \(weights: .*--overwrite'):
        restore_path(source, out, darker)
    with pytest.raises(RequestError, match='self_ensemble: false there, true now'):
        restore_path(source, out, weights, self_ensemble=True)
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'a.png')), repeated(photo))
    assert restore_path(source, out, darker, overwrite=True) == 0
    assert np.asarray(Image.open(out / 'a.png')).mean() < 0.6 * photo.mean()
    (run,) = json.loads((out / 'restore.json').read_text())['runs']
    assert run['settings']['network'] == {'type': 'Repeating'}
    assert list(run['results']) == ['a.png', 'clip/grey.png']
    (out / 'restore.json').unlink()
    with pytest.raises(RequestError, match=r'no restore\.json'):
        restore_path(source, out, darker)


def test_overwriting_one_result_leaves_the_record_of_the_others(weights, source, photo, tmp_path):
    out, darker = tmp_path / 'out', make_weights(tmp_path, 'darker', gain=0.5)
    Image.fromarray(photo).save(source / 'text.png')
    restore_path(source, out, weights)
    restore_path(source / 'a.png', out, darker, overwrite=True)
    for used, other in [(weights, 'a.png'), (darker, 'text.png')]:
        with pytest.raises(RequestError, match=f'made with other settings, such as {other}'):
            restore_path(source, out, used)
    assert np.asarray(Image.open(out / 'a.png')).mean() < 0.6 * photo.mean()
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'text.png')), repeated(photo))
    before = (out / 'text.png').stat().st_mtime_ns
    assert restore_path(source / 'text.png', out, weights) == 0  # its own weights: done, and known to be
    assert (out / 'text.png').stat().st_mtime_ns == before
    (out / 'b.png').write_bytes(b'of the user')
    Image.fromarray(photo).save(source / 'b.png')
    with pytest.raises(RequestError, match=r'b\.png, and no restore\.json'):
        restore_path(source / 'b.png', out, weights)


def test_what_a_killed_overwriting_left_is_made_anew(weights, source, photo, tmp_path):
    """The run began a new record and was killed before the picture, which is still of the old weights."""
    out, darker = tmp_path / 'out', make_weights(tmp_path, 'darker', gain=0.5)
    restore_path(source, out, weights)
    old = (out / 'a.png').read_bytes()
    restore_path(source, out, darker, overwrite=True)
    begun = json.loads((out / 'restore.json').read_text())['runs'][-1]['results']['a.png']['since']
    (out / 'a.png').write_bytes(old)
    os.utime(out / 'a.png', ns=(begun - 10, begun - 10))
    restore_path(source, out, darker)
    assert np.asarray(Image.open(out / 'a.png')).mean() < 0.6 * photo.mean()


@pytest.fixture
def days(tmp_path, photo):
    """Two folders with a picture of one name, both older than any result."""
    for number, pixels in ((1, photo), (2, photo[::-1])):
        folder = tmp_path / f'day{number}'
        folder.mkdir()
        Image.fromarray(pixels).save(folder / 'IMG_0001.png')
        os.utime(folder / 'IMG_0001.png', (1e9, 1e9))
    return tmp_path / 'day1', tmp_path / 'day2'


@pytest.mark.parametrize('given', ['.', 'IMG_0001.png'])
def test_another_source_never_counts_as_done(weights, days, photo, tmp_path, given):
    first, second = (day / given for day in days)
    out = tmp_path / 'out'
    restore_path(first, out, weights)
    with pytest.raises(RequestError, match=r'result of another source, .*day1/IMG_0001\.png; that of .*day2'):
        restore_path(second, out, weights)
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'IMG_0001.png')), repeated(photo))
    assert restore_path(second, out, weights, overwrite=True) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'IMG_0001.png')), repeated(photo[::-1]))
    with pytest.raises(RequestError, match='another source'):
        restore_path(first, out, weights)
    (run,) = json.loads((out / 'restore.json').read_text())['runs']
    source = run['results']['IMG_0001.png']['source']
    content = (days[1] / 'IMG_0001.png').read_bytes()
    assert source == {
        'path': str(days[1] / 'IMG_0001.png'),
        'size': len(content),
        'modified': 10**18,
        'sha256': hashlib.sha256(content).hexdigest(),
    }


def test_a_moved_source_is_done_and_a_changed_one_is_not(weights, days, photo, tmp_path):
    """Also where the changed one has the size of the old one and is older than the result."""
    out = tmp_path / 'out'
    restore_path(days[0], out, weights)
    made = (out / 'IMG_0001.png').stat().st_mtime_ns
    days[0].rename(tmp_path / 'elsewhere')
    assert restore_path(tmp_path / 'elsewhere', out, weights) == 0
    assert (out / 'IMG_0001.png').stat().st_mtime_ns == made
    Image.fromarray(photo[::-1]).save(tmp_path / 'elsewhere/IMG_0001.png')
    os.utime(tmp_path / 'elsewhere/IMG_0001.png', (1e9 + 7, 1e9 + 7))
    assert restore_path(tmp_path / 'elsewhere', out, weights) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'IMG_0001.png')), repeated(photo[::-1]))


def test_a_source_whose_result_was_never_made_leaves_its_name_free(weights, days, photo, tmp_path):
    out = tmp_path / 'out'
    (days[0] / 'IMG_0001.png').write_text('no picture')
    Image.fromarray(photo).save(days[0] / 'b.png')
    assert restore_path(days[0], out, weights) == 1
    assert restore_path(days[1], out, weights) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / 'IMG_0001.png')), repeated(photo[::-1]))


def test_results_whose_source_an_earlier_version_did_not_record_are_not_taken_for_done(weights, days, tmp_path):
    out = tmp_path / 'out'
    restore_path(days[0], out, weights)
    record = json.loads((out / 'restore.json').read_text())
    record['runs'][0]['results'] = {name: each['since'] for name, each in record['runs'][0]['results'].items()}
    (out / 'restore.json').write_text(json.dumps(record))
    with pytest.raises(RequestError, match=r'earlier version, which did not record the source.*--overwrite'):
        restore_path(days[0], out, weights)
    assert restore_path(days[0], out, weights, overwrite=True) == 0
    assert restore_path(days[0], out, weights) == 0
