"""`restore_path`: pictures and folders through trained weights, what stops a request and what stops nothing."""

import hashlib
import json
import os
import resource
import shlex
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from repeating_network import Repeating, make_weights
from skimage import data

from pdan_plugin.archs import PDAN
from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import unfinished_path
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_format import PictureFormat
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.restoration import load_trained_network, picture_jobs, restore_path

NETWORK = {'num_feat': 16, 'num_group': 2, 'num_block': 1, 'fuse_levels': 2}


def repeated(pixels, times=2):
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


@pytest.fixture
def experiment(tmp_path):
    """experiments/small with weights and the option file the trainer leaves there; the network itself."""
    network = PDAN(**NETWORK)
    models = tmp_path / 'experiments/small/models'
    models.mkdir(parents=True)
    ema = {name: value * 0.5 for name, value in network.state_dict().items()}
    torch.save({'params': network.state_dict(), 'params_ema': ema}, models / 'net_g_8.pth')
    (models.parent / 'small.yml').write_text(yaml.safe_dump({'network_g': {'type': 'PDAN'} | NETWORK}))
    network.load_state_dict(ema)
    return models / 'net_g_8.pth', network


@pytest.fixture
def weights(tmp_path):
    return make_weights(tmp_path, 'repeating')


@pytest.fixture
def photo():
    return np.ascontiguousarray(data.astronaut()[100:140, 200:230])


@pytest.fixture
def source(tmp_path, photo):
    """A folder: a picture, a grey one of 16 bits in a folder, a text named .png, a text, a hidden file."""
    folder = tmp_path / 'in'
    (folder / 'clip').mkdir(parents=True)
    Image.fromarray(photo).save(folder / 'a.png')
    cv2.imwrite(str(folder / 'clip/grey.png'), photo[..., 0].astype(np.uint16) * 256 + 7)
    (folder / 'text.png').write_text('Dear reader,')
    (folder / 'notes.txt').write_text('left alone')
    (folder / '._a.png').write_text('of another system')
    return folder


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_a_picture_is_what_the_network_gives(experiment, photo, tmp_path):
    weights, network = experiment
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'out', weights, precision='fp32') == 0
    with torch.inference_mode():
        rgb = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        expected = network(rgb)[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/photo.png')), expected)


def test_the_next_command_uses_the_same_weights(experiment, photo, tmp_path, capsys):
    weights, network = experiment
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    lone = tmp_path / 'lone.pth'
    torch.save({'first': network.state_dict(), 'second': network.state_dict()}, lone)
    options = weights.parents[1] / 'small.yml'
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'out', lone, options, param_key='second') == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith('  basicsr')]
    assert cli.main(shlex.split(command)[1:]) == 0


def test_the_target_may_be_a_file_name(weights, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'sharp.bmp', weights) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'sharp.bmp')), repeated(photo))
    with pytest.raises(RequestError, match='exists already'):
        restore_path(tmp_path / 'photo.png', tmp_path / 'sharp.bmp', weights)
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'sharp.bmp', weights, overwrite=True) == 0


def test_a_picture_is_decoded_once(weights, photo, tmp_path, monkeypatch):
    """Also where it is decoded before the network runs, to see whether the kind of file asked for can hold it."""
    decoded = []
    read = picture_jobs.read_picture
    monkeypatch.setattr(picture_jobs, 'read_picture', lambda path: (decoded.append(path.name), read(path))[1])
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'sharp.jpg', weights) == 0
    assert restore_path(tmp_path / 'photo.png', tmp_path / 'out', weights) == 0
    assert decoded == ['photo.png', 'photo.png']


def test_a_folder_keeps_its_folders_and_one_bad_file_stops_nothing(weights, source, photo, tmp_path, capsys):
    assert restore_path(source, tmp_path / 'out', weights) == 1
    assert files(tmp_path / 'out') == ['a.png', 'clip/grey.png', 'restore.json']
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/a.png')), repeated(photo))
    grey = cv2.imread(str(tmp_path / 'out/clip/grey.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(grey, repeated(photo[..., 0].astype(np.uint16) * 256 + 7))
    told = capsys.readouterr()
    assert 'text.png: cannot be decoded as a picture' in told.err
    assert '2 of 3 restored' in told.out
    assert '1 .txt' in told.out


def test_a_folder_half_done_goes_on(weights, source, tmp_path, capsys):
    out = tmp_path / 'out'
    restore_path(source, out, weights)
    (out / 'clip/grey.png').unlink()
    unfinished_path(out / 'clip/grey.png', '.png').write_bytes(b'killed here')
    before = (out / 'a.png').stat().st_mtime_ns
    capsys.readouterr()
    assert restore_path(source, out, weights) == 1
    assert '1 already done' in capsys.readouterr().out
    assert files(out) == ['a.png', 'clip/grey.png', 'restore.json']
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


def test_pictures_of_every_ending_in_a_folder(weights, photo, tmp_path):
    """The content decides: a JPEG named .mp4 is restored as a picture, and a .png may hold a TIFF."""
    source = tmp_path / 'in'
    source.mkdir()
    kinds = {'a.jfif': 'JPEG', 'b.jpe': 'JPEG', 'c.JPG': 'JPEG', 'd.mp4': 'JPEG', 'e.png': 'TIFF', 'f.webp': 'PNG'}
    if 'AVIF' in (Image.init(), Image.SAVE)[1]:
        kinds['g.avif'] = 'AVIF'
    expected = {}
    for name, kind in kinds.items():
        Image.fromarray(photo).save(source / name, kind)
        with Image.open(source / name) as image:
            expected[name] = repeated(np.asarray(image))
    assert restore_path(source, tmp_path / 'out', weights) == 0
    assert files(tmp_path / 'out') == [*(Path(name).stem + '.png' for name in sorted(kinds)), 'restore.json']
    for name, pixels in expected.items():
        result = np.asarray(Image.open(tmp_path / 'out' / f'{Path(name).stem}.png'))
        np.testing.assert_array_equal(result, pixels, name)
    assert restore_path(source / 'd.mp4', tmp_path / 'sharp.jfif', weights) == 0
    assert Image.open(tmp_path / 'sharp.jfif').format == 'JPEG'


def test_pictures_of_other_endings_in_a_folder(weights, photo, tmp_path, capsys):
    """They are restored if they begin like a picture, and leave the name to a picture that has a usual ending."""
    source = tmp_path / 'in'
    source.mkdir()
    Image.fromarray(photo).save(source / 'both.png')
    for name, kind in {'a.jp2': 'JPEG2000', 'b.tga': 'TGA', 'c.dat': 'TIFF', 'd': 'PPM', 'both.tga': 'TGA'}.items():
        Image.fromarray(photo).save(source / name, kind)
    (source / 'e.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(50))
    (source / 'f.txt').write_text('BM is no bitmap')
    assert restore_path(source, tmp_path / 'out', weights) == 0
    assert files(tmp_path / 'out') == ['a.png', 'b.png', 'both.png', 'c.png', 'd.png', 'restore.json']
    for name in 'abcd':
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f'out/{name}.png')), repeated(photo), name)
    told = capsys.readouterr().out
    assert 'no pictures or videos that can be read: ' in told
    for left in ('1 .heic', '1 .txt', '1 .tga beside a picture of the same name'):
        assert left in told


def test_pipes_and_links_in_a_folder(weights, photo, tmp_path, capsys):
    """A pipe would be waited on for ever, a link to a folder may lead in a circle; each is told."""
    source = tmp_path / 'in'
    source.mkdir()
    Image.fromarray(photo).save(source / 'a.png')
    os.symlink(source / 'a.png', source / 'link.png')
    os.symlink(source, source / 'circle')
    for name in ('pipe.png', 'pipe.mp4'):
        os.mkfifo(source / name)
    assert restore_path(source, tmp_path / 'out', weights) == 1
    assert files(tmp_path / 'out') == ['a.png', 'link.png', 'restore.json']
    told = capsys.readouterr()
    assert f'a link to a folder: {source / "circle"}' in told.out
    for name in ('pipe.png', 'pipe.mp4'):
        assert f'{name}: is a pipe' in told.err


@pytest.mark.parametrize('form', ['png', 'jpg', 'webp', 'tiff'])
def test_a_result_that_finds_no_room_is_told_by_its_name(weights, photo, tmp_path, capsys, form):
    """The largest file this process may write stands for the disk; nothing is left, not even an empty folder."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, photo.shape, np.uint8)).save(tmp_path / 'a.png')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        results = ResultSettings(picture=PictureFormat(form))
        status = restore_path(tmp_path / 'a.png', tmp_path / 'out', weights, results=results)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert f'{tmp_path / "out/a"}{PictureFormat(form).ending}: File too large' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_compiling_is_told_before_it_begins(weights, photo, tmp_path, capsys):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    with torch.compiler.set_stance('force_eager'):
        restore_path(tmp_path / 'a.png', tmp_path / 'out', weights, compiled=True)
    assert 'the first picture takes longer' in capsys.readouterr().out


def test_a_precision_that_slows_this_processor_is_told_before_it_begins(weights, photo, tmp_path, capsys, monkeypatch):
    """A mock, because the processor at hand may have the instructions."""
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda _: 9.0)
    Image.fromarray(photo).save(tmp_path / 'a.png')
    restore_path(tmp_path / 'a.png', tmp_path / 'fp32', weights, device='cpu')
    assert 'is slow' not in capsys.readouterr().out
    restore_path(tmp_path / 'a.png', tmp_path / 'bf16', weights, precision='bf16', device='cpu')
    told = capsys.readouterr().out
    assert told.index('Note: precision bf16 is slow') < told.index('restored to')


def test_the_longest_name_a_file_may_have(weights, photo, tmp_path):
    (tmp_path / 'in').mkdir()
    names = ['a.png', 251 * 'x' + '.png']
    for name in names:
        Image.fromarray(photo).save(tmp_path / 'in' / name)
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights) == 0
    assert files(tmp_path / 'out') == sorted([*names, 'restore.json'])


def test_the_working_folder_may_be_the_target(weights, photo, tmp_path, monkeypatch):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    (tmp_path / 'out').mkdir()
    monkeypatch.chdir(tmp_path / 'out')
    assert restore_path(tmp_path / 'a.png', Path('.'), weights) == 0
    assert Path('a.png').exists()


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


def test_transparency_is_enlarged_and_hidden_colours_do_not_show(weights, photo, tmp_path):
    alpha = np.zeros((40, 30), np.uint8)
    alpha[10:30, 10:20] = 255
    garish = np.where(alpha[..., None] > 0, photo, np.array([0, 255, 0], np.uint8))
    Image.fromarray(np.dstack([garish, alpha])).save(tmp_path / 'cut_out.png')
    assert restore_path(tmp_path / 'cut_out.png', tmp_path / 'out.png', weights) == 0
    result = np.asarray(Image.open(tmp_path / 'out.png'))
    assert result.shape == (80, 60, 4)
    np.testing.assert_array_equal(result[24:56, 24:36], repeated(np.dstack([photo, alpha]))[24:56, 24:36])
    np.testing.assert_array_equal(result[30, 19, :3], photo[15, 10])  # the nearest visible colour, not the hidden green
    assert result[0, 0, 3] == 0
    assert 0 < result[30, 19, 3] < 128  # cubic


def test_a_4k_picture_and_one_of_one_pixel(tmp_path):
    """With a network that keeps the size, in tiles, so that a large picture takes little memory."""
    weights = make_weights(tmp_path, 'same_size', upscale=1)
    source = tmp_path / 'in'
    source.mkdir()
    large = np.tile(data.astronaut(), (5, 8, 1))[:2160, :3840]
    Image.fromarray(large).save(source / 'large.bmp')
    Image.fromarray(large[:1, :1]).save(source / 'small.png')
    assert restore_path(source, tmp_path / 'out', weights, tile=512, overlap=8) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/large.png')), large)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/small.png')), large[:1, :1])


def test_a_result_larger_than_the_memory_is_refused(weights, source, tmp_path, capsys, monkeypatch):
    """A mock of the free memory, because a picture whose result does not fit takes minutes."""
    monkeypatch.setattr(picture_jobs, 'free_memory', lambda _: 4 * 40 * 30 * 3)
    (source / 'text.png').unlink()
    assert restore_path(source, tmp_path / 'out', weights, tile=64) == 1
    assert files(tmp_path / 'out') == ['a.png', 'restore.json']
    told = capsys.readouterr().err
    assert 'grey.png: its result of 60x80 pixels needs' in told


def test_exif_that_the_ending_cannot_hold_is_refused_before_the_network_runs(weights, photo, tmp_path):
    exif = Image.Exif()
    exif[270] = 'x' * 70_000
    Image.fromarray(photo).save(tmp_path / 'a.png', exif=exif)
    with pytest.raises(RequestError, match='bytes of EXIF'):
        restore_path(tmp_path / 'a.png', tmp_path / 'out.jpg', weights)
    assert restore_path(tmp_path / 'a.png', tmp_path / 'out', weights) == 0
    assert Image.open(tmp_path / 'out/a.png').getexif()[270] == 'x' * 70_000


@pytest.mark.long
def test_200_megapixels_are_restored_in_tiles(tmp_path):
    weights = make_weights(tmp_path, 'same_size', upscale=1)
    pixels = np.zeros((10_050, 20_000), np.uint8)
    pixels[5000:5100, 7:900] = 200
    Image.fromarray(pixels).save(tmp_path / 'large.png')
    assert restore_path(tmp_path / 'large.png', tmp_path / 'out', weights, tile=2048, overlap=8) == 0
    found = read_picture(tmp_path / 'out/large.png').colour[..., 2]
    np.testing.assert_array_equal(found, pixels)


def test_wrong_requests_write_nothing(weights, source, photo, tmp_path):
    (tmp_path / 'empty').mkdir()
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), photo.astype(np.uint16) * 256)
    (tmp_path / 'file').write_text('in the way')
    os.mkfifo(tmp_path / 'pipe.png')
    before = files(tmp_path)
    for given, target, used, complaint in [
        ('absent', 'out', weights, 'no such picture, video or folder'),
        ('empty', 'out', weights, 'no pictures'),
        ('photo.png', 'out', tmp_path / 'absent.pth', 'no such weights file'),
        ('photo.png', 'out.xcf', weights, 'cannot be written with this ending'),
        ('deep.png', 'out.jpg', weights, 'holds 8 bits'),
        ('in', 'file', weights, 'is a file'),
        ('in', 'file/out', weights, 'is a file'),
        ('photo.png', 'file', weights, 'is a file'),
        ('pipe.png', 'out', weights, 'is a pipe'),
        ('in', 'in', weights, 'is also the input'),
        ('photo.png', '.', weights, 'overwritten by its own result'),
    ]:
        with pytest.raises(RequestError, match=complaint):
            restore_path(tmp_path / given, tmp_path / target, used, weights.parent.parent / 'run.yml')
    with pytest.raises(RequestError, match='--device nonsense'):
        restore_path(tmp_path / 'photo.png', tmp_path / 'out', weights, device='nonsense')
    assert files(tmp_path) == before


def test_too_little_memory_is_told_before_anything_is_written(weights, source, tmp_path):
    with pytest.raises(RequestError, match=r'memory: a tile of .* held already by .* Allow more'):
        restore_path(source, tmp_path / 'out', weights, memory=1000)
    assert not (tmp_path / 'out').exists()


def test_the_next_command_is_the_one_given(weights, photo, tmp_path, capsys):
    """It is typed in as it is printed, folders with spaces and all."""
    source, out = tmp_path / 'my photos', tmp_path / 'my results'
    source.mkdir()
    Image.fromarray(photo).save(source / 'a.png')
    given = ['--precision', 'bf16', '--memory', '4G', '--overlap', '8', '--device', 'cpu']
    given += ['-opt', str(weights.parent.parent / 'run.yml')]
    assert cli.main(['restore', str(source), '-o', str(out), '-w', str(weights), *given]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    given[3] = str(4 * 2**30)
    for option, value in zip(given[::2], given[1::2], strict=True):
        assert words[words.index(option) + 1] == value
    assert cli.main(words[1:]) == 0
    assert files(tmp_path / 'my results_ensemble') == ['a.png', 'restore.json']


def test_the_next_command_takes_a_name_that_looks_like_an_option(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save('-a.png')
    assert cli.main(['restore', '-o', 'b.png', '--', '-a.png']) == 0
    assert cli.main(shlex.split(capsys.readouterr().out.splitlines()[-1])[1:]) == 0
    assert Path('b_ensemble.png').is_file()


def test_an_output_that_cannot_be_written_is_told_first(weights, source, tmp_path, capsys):
    """Root may write into any folder, but nobody may make one in /proc."""
    folder = tmp_path / 'locked'
    folder.mkdir(mode=0o500)
    target = Path('/proc/results') if os.geteuid() == 0 else folder / 'results'
    assert cli.main(['restore', str(source), '-o', str(target), '-w', str(weights)]) == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_two_pictures_with_one_result_name_are_refused(weights, photo, tmp_path):
    source = tmp_path / 'in'
    source.mkdir()
    Image.fromarray(photo).save(source / 'a.png')
    Image.fromarray(photo).save(source / 'a.bmp')
    with pytest.raises(RequestError, match=r'a\.png'):
        restore_path(source, tmp_path / 'out', weights)


def test_results_inside_the_input_are_no_input(weights, source):
    for _ in range(2):
        assert restore_path(source, source / 'out', weights) == 1
    assert files(source / 'out') == ['a.png', 'clip/grey.png', 'restore.json']


def test_ctrl_c_leaves_whole_results_only(weights, source, tmp_path, monkeypatch, capsys):
    """Stopped while the second picture is being restored."""
    forward, calls = Repeating.forward, []

    def slow(self, x):
        calls.append(x.shape)
        if x.shape[-2:] == (40, 30) and sum(shape[-2:] == (40, 30) for shape in calls) == 2:
            raise KeyboardInterrupt  # what Ctrl-C does here, also where the signal itself is ignored
        return forward(self, x)

    monkeypatch.setattr(Repeating, 'forward', slow)
    status = cli.main(['restore', str(source), '-o', str(tmp_path / 'out'), '-w', str(weights), '--tile', '64'])
    assert status == 130
    assert 'The same command continues' in capsys.readouterr().err
    assert files(tmp_path / 'out') == ['a.png', 'restore.json']


def test_ctrl_c_ends_a_long_writing_and_leaves_nothing_half(weights, tmp_path, monkeypatch):
    """Stopped while the first result, which takes long to write, is being written."""
    (tmp_path / 'in').mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    for name in ('a', 'b', 'c'):
        Image.fromarray(noise if name == 'a' else noise[:40, :30]).save(tmp_path / f'in/{name}.png')
    forward, write = Repeating.forward, picture_jobs.write_picture
    writing = threading.Event()

    def stopped_at_the_second(self, x):
        if x.shape[-2:] == (40, 30):
            assert writing.wait(60)
            raise KeyboardInterrupt
        return forward(self, x)

    def slow(path, picture, form, check):
        def look():
            writing.set()
            time.sleep(0.1)
            check()

        write(path, picture, form, look)

    monkeypatch.setattr(Repeating, 'forward', stopped_at_the_second)
    monkeypatch.setattr(picture_jobs, 'write_picture', slow)
    with pytest.raises(KeyboardInterrupt):
        restore_path(tmp_path / 'in', tmp_path / 'out', weights, tile=2000)
    assert files(tmp_path / 'out') == ['restore.json']
    monkeypatch.undo()
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights) == 0
    assert files(tmp_path / 'out') == ['a.png', 'b.png', 'c.png', 'restore.json']


@pytest.mark.parametrize(
    'words', [['--memory', 'much'], ['--memory', '0'], ['--memory', '4'], ['--tile', '0'], ['--tile', 'small']]
)
def test_arguments_that_mean_nothing_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['restore', 'in', '-o', 'out', '-w', 'weights', *words])
    assert ended.value.code == 2
    assert 'expected' in capsys.readouterr().err


def test_weights_away_from_their_experiment_are_recognised_or_get_the_option_file(experiment, tmp_path):
    weights, _ = experiment
    alone = tmp_path / 'net_g.pth'
    alone.write_bytes(weights.read_bytes())
    expected = load_trained_network(weights).state_dict()
    for option_file in (None, weights.parent.parent / 'small.yml'):
        network = load_trained_network(alone, option_file)
        assert network.deblur_branch is None
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(experiment, tmp_path):
    weights, _ = experiment
    other = tmp_path / 'other.yml'
    other.write_text(yaml.safe_dump({'network_g': {'type': 'PDAN'} | NETWORK | {'num_feat': 32}}))
    with pytest.raises(RequestError, match='does not fit'):
        load_trained_network(weights, other)


def test_weights_that_carry_code_are_refused(tmp_path, experiment):
    class Harmful:
        def __reduce__(self):
            return print, ('run',)

    torch.save({'params': Harmful()}, tmp_path / 'harmful.pth')
    with pytest.raises(RequestError, match=r'harmful\.pth'):
        load_trained_network(tmp_path / 'harmful.pth', experiment[0].parent.parent / 'small.yml')


@pytest.mark.parametrize('words', [(), ('--tile', '32')])
def test_a_network_that_computes_no_numbers_leaves_no_picture(experiment, photo, tmp_path, capsys, words):
    """Its picture would be black, with exit status 0. As the weights of a training that has diverged."""
    weights, _ = experiment
    saved = torch.load(weights)
    saved['params_ema']['conv_last.bias'][1] = float('nan')
    torch.save(saved, weights)
    (tmp_path / 'in').mkdir()
    cv2.imwrite(str(tmp_path / 'in/photo.png'), photo)
    status = cli.main(['restore', str(tmp_path / 'in'), '-o', str(tmp_path / 'out'), '-w', str(weights), *words])
    assert status == 1
    told = capsys.readouterr().err
    assert 'photo.png: the network computes values that are not finite' in told
    assert 'its weights are damaged' in told
    assert not (tmp_path / 'out/photo.png').exists()
