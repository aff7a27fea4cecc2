"""`restore_path`: pictures and folders through trained weights, what stops a request and what stops nothing."""

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
from folder_contents import names_in
from PIL import Image
from repeating_network import Repeating, make_weights, repeated
from skimage import data

from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_format import PictureFormat
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.restoration import picture_jobs, restore_path


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
    assert names_in(tmp_path / 'out') == ['a.png', 'clip/grey.png', 'restore.json']
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out/a.png')), repeated(photo))
    grey = cv2.imread(str(tmp_path / 'out/clip/grey.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(grey, repeated(photo[..., 0].astype(np.uint16) * 256 + 7))
    told = capsys.readouterr()
    assert 'text.png: cannot be decoded as a picture' in told.err
    assert '2 of 3 restored' in told.out
    assert '1 .txt' in told.out


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
    assert names_in(tmp_path / 'out') == [*(Path(name).stem + '.png' for name in sorted(kinds)), 'restore.json']
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
    assert names_in(tmp_path / 'out') == ['a.png', 'b.png', 'both.png', 'c.png', 'd.png', 'restore.json']
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
    assert names_in(tmp_path / 'out') == ['a.png', 'link.png', 'restore.json']
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


def test_the_longest_name_a_file_may_have(weights, photo, tmp_path):
    (tmp_path / 'in').mkdir()
    names = ['a.png', 251 * 'x' + '.png']
    for name in names:
        Image.fromarray(photo).save(tmp_path / 'in' / name)
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights) == 0
    assert names_in(tmp_path / 'out') == sorted([*names, 'restore.json'])


def test_the_working_folder_may_be_the_target(weights, photo, tmp_path, monkeypatch):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    (tmp_path / 'out').mkdir()
    monkeypatch.chdir(tmp_path / 'out')
    assert restore_path(tmp_path / 'a.png', Path('.'), weights) == 0
    assert Path('a.png').exists()


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


@pytest.mark.long
def test_200_megapixels_are_restored_in_tiles(tmp_path):
    weights = make_weights(tmp_path, 'same_size', upscale=1)
    pixels = np.zeros((10_050, 20_000), np.uint8)
    pixels[5000:5100, 7:900] = 200
    Image.fromarray(pixels).save(tmp_path / 'large.png')
    assert restore_path(tmp_path / 'large.png', tmp_path / 'out', weights, tile=2048, overlap=8) == 0
    found = read_picture(tmp_path / 'out/large.png').colour[..., 2]
    np.testing.assert_array_equal(found, pixels)


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
    assert names_in(tmp_path / 'my results_ensemble') == ['a.png', 'restore.json']


def test_the_next_command_takes_a_name_that_looks_like_an_option(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save('-a.png')
    assert cli.main(['restore', '-o', 'b.png', '--', '-a.png']) == 0
    assert cli.main(shlex.split(capsys.readouterr().out.splitlines()[-1])[1:]) == 0
    assert Path('b_ensemble.png').is_file()


def test_results_inside_the_input_are_no_input(weights, source):
    for _ in range(2):
        assert restore_path(source, source / 'out', weights) == 1
    assert names_in(source / 'out') == ['a.png', 'clip/grey.png', 'restore.json']


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
    assert names_in(tmp_path / 'out') == ['a.png', 'restore.json']


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
    assert names_in(tmp_path / 'out') == ['restore.json']
    monkeypatch.undo()
    assert restore_path(tmp_path / 'in', tmp_path / 'out', weights) == 0
    assert names_in(tmp_path / 'out') == ['a.png', 'b.png', 'c.png', 'restore.json']


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
