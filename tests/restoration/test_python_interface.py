"""The Python interface: what goes in comes out of the same kind, and what is in doubt is refused."""

import copy
import pickle
import struct
import threading

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from png_files import png_16
from repeating_network import Repeating
from skimage import data

import pdan_plugin
from pdan_plugin import Restorer, load_network, networks
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.restoration import picture_jobs

COLOUR = np.ascontiguousarray(data.astronaut()[100:109, 60:71])
GREY = np.ascontiguousarray(COLOUR[..., 1])
ALPHA = np.full((9, 11), 200, np.uint8)
RGBA = np.dstack([COLOUR, ALPHA])


@pytest.fixture(scope='module')
def pdan_small():
    return Restorer('pdan_small', 'cpu', 'fp32')


def repeated(array):
    return array.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(
    'picture',
    [
        COLOUR,
        GREY,
        GREY[..., None],
        COLOUR.astype(np.uint16) * 257,
        (GREY.astype(np.uint16) * 257).astype('>u2'),
        COLOUR.astype(np.float32) / 255,
        GREY.astype(np.float64) / 255,
        COLOUR.astype(np.float16) / 255,
        COLOUR[::-1, :, ::-1],
        np.asfortranarray(COLOUR),
        COLOUR[:1, :1],
        RGBA,
        RGBA.astype(np.uint16) * 257,
        RGBA.astype(np.float32) / 255,
    ],
    ids=lambda picture: f'{picture.dtype.str}{picture.shape}',
)
def test_an_array_gives_an_array(twice, picture):
    before = picture.copy()
    result = twice(picture)
    assert (type(result), result.dtype) == (np.ndarray, picture.dtype)
    np.testing.assert_allclose(result.astype(float), repeated(picture).astype(float), atol=1e-7)
    np.testing.assert_array_equal(picture, before)


def test_grey_is_restored_as_three_equal_channels(pdan_small):
    for grey in (GREY, GREY.astype(np.float32) / 255):
        three = pdan_small(np.repeat(grey[..., None], 3, axis=2)).astype(float)
        result = pdan_small(grey)
        assert result.shape == (36, 44)
        np.testing.assert_allclose(result, three.mean(axis=2), atol=0.5 if grey is GREY else 1e-6)


def test_the_kinds_agree_to_a_grey_level(pdan_small):
    whole = pdan_small(COLOUR).astype(float)
    others = {
        'PIL': np.asarray(pdan_small(Image.fromarray(COLOUR))),
        'uint16': pdan_small(COLOUR.astype(np.uint16) * 257) / 257,
        'float': pdan_small(COLOUR / 255) * 255,
        'tensor': pdan_small(torch.from_numpy(COLOUR / 255).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy() * 255,
    }
    for kind, other in others.items():
        assert np.abs(other - whole).max() <= 0.51, kind
    # and they are the network's
    batch = torch.from_numpy(COLOUR.astype(np.float32) / 255).permute(2, 0, 1)[None]
    plain = load_network('pdan_small')(batch)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(plain - whole).max() <= 0.51


def test_hidden_colours_do_not_shine_through(twice):
    """Where a picture is transparent its colour is hidden; `restore` fills it from the neighbours, and so does this."""
    hidden = RGBA.copy()
    hidden[:, 5:, 3] = 0
    hidden[:, 5:, :3] = 0
    for picture in (hidden, hidden.astype(np.float32) / 255):
        assert (twice(picture)[:, 10:, :3] == repeated(picture[:, 4:5, :3])[:, :1]).all()


@pytest.mark.parametrize(
    ('mode', 'given', 'found'),
    [('RGB', COLOUR, 'RGB'), ('L', GREY, 'L'), ('RGBA', RGBA, 'RGBA'), ('I;16', GREY.astype(np.uint16), 'I;16')],
)
def test_an_image_gives_an_image_of_its_mode(twice, mode, given, found):
    image = Image.fromarray(given)
    assert image.mode == mode
    result = twice(image)
    assert result.mode == found
    np.testing.assert_array_equal(np.asarray(result), repeated(given))


def test_images_that_are_converted_say_so_by_their_mode(twice):
    bits = Image.fromarray(GREY).convert('1')
    np.testing.assert_array_equal(np.asarray(twice(bits)), repeated(np.asarray(bits.convert('L'))))
    palette = Image.fromarray(COLOUR).quantize(7)
    np.testing.assert_array_equal(np.asarray(twice(palette)), repeated(np.asarray(palette.convert('RGB'))))
    grey_alpha = Image.merge('LA', [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    result = twice(grey_alpha)
    assert result.mode == 'LA'
    np.testing.assert_array_equal(np.asarray(result), repeated(np.dstack([GREY, ALPHA])))
    keyed = Image.fromarray(GREY)
    keyed.info['transparency'] = int(GREY[4, 5])
    assert twice(keyed).mode == 'LA'
    assert twice(keyed).getchannel('A').getextrema()[0] < 255


def test_an_image_keeps_what_belongs_to_its_colours(twice):
    image = Image.fromarray(COLOUR)
    image.info.update(icc_profile=b'profile', exif=b'Exif', dpi=(72, 72), transparency=None, foo=1)
    del image.info['transparency']
    assert twice(image).info == {'icc_profile': b'profile', 'exif': b'Exif', 'dpi': (72, 72)}


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_a_tensor_gives_a_tensor(twice, dtype):
    batch = torch.rand(2, 3, 5, 7).to(dtype).requires_grad_()
    result = twice(batch)
    assert (result.dtype, result.requires_grad, result.is_inference()) == (dtype, False, False)
    assert torch.equal(result, batch.detach().repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize(
    ('picture', 'complaint'),
    [
        (np.zeros((0, 5, 3), np.uint8), 'with pixels'),
        (np.zeros((3, 9, 11), np.uint8), r'transpose\(1, 2, 0\)'),
        (np.zeros((2, 9, 11, 3), np.uint8), 'one by one'),
        (np.zeros((9, 11, 2), np.uint8), r'got \(9, 11, 2\)'),
        (np.zeros(5, np.uint8), r'got \(5,\)'),
        (np.zeros((9, 11, 3), bool), 'got bool'),
        (np.zeros((9, 11, 3), np.int64), 'got int64'),
        (np.zeros((9, 11, 3), np.uint32), 'got uint32'),
        (np.zeros((9, 11, 3), complex), 'got complex128'),
        (np.zeros((9, 11, 3), object), 'got object'),
        (np.full((9, 11, 3), 200.0), r'from 200 to 200; expected \[0, 1\]; divide by 255'),
        (np.full((9, 11), -0.5), 'from -0.5'),
        (np.full((9, 11, 3), np.nan), 'NaN'),
        (np.ma.masked_array(COLOUR), 'masked'),
        (torch.zeros(3, 9, 11), r'add \[None\]'),
        (torch.zeros(1, 9, 11, 3), 'permute'),
        (torch.zeros(1, 1, 9, 11), r'\(b, 3, h, w\)'),
        (torch.zeros(0, 3, 9, 11), r'got \(0, 3, 9, 11\)'),
        (torch.zeros(1, 3, 9, 11, dtype=torch.uint8), 'divide by 255'),
        (torch.full((1, 3, 9, 11), 1.5), 'from 1.5'),
        (torch.full((1, 3, 9, 11), torch.inf), 'infinite'),
        (torch.zeros(1, 3, 9, 11).to(torch.float8_e4m3fn), 'got torch.float8_e4m3fn'),
        (torch.zeros(1, 3, 9, 11).to_sparse(), r'torch.sparse_coo; give to_dense\(\)'),
        (torch.zeros(1, 3, 9, 11, device='meta'), 'no values'),
        (Image.new('CMYK', (4, 4)), r"image\.convert\('RGB'\)"),
        (Image.new('RGBA', (4, 4)).convert('RGBa'), r"image\.convert\('RGBA'\)"),
        (Image.new('LA', (4, 4)).convert('La'), r"image\.convert\('LA'\)"),
        (Image.new('F', (4, 4)), 'np.asarray'),
        (Image.new('RGB', (0, 4)), '0x4'),
        ('photo.jpg', 'restore_file'),
        ([[1, 2]], 'got list'),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_in_doubt_is_refused(twice, picture, complaint):
    with pytest.raises(RequestError, match=complaint):
        twice(picture)


def test_a_transparent_value_of_16_bits_is_not_lost_silently(twice, tmp_path):
    """PIL has no 16-bit image with alpha; a file of the same picture has."""
    transparent = struct.pack('>H', int(GREY[4, 5]) * 257)
    (tmp_path / 'deep.png').write_bytes(png_16(0, GREY.astype(np.uint16) * 257, (b'tRNS', transparent)))
    with Image.open(tmp_path / 'deep.png') as opened:
        advice = 'restore_file' if opened.mode.startswith('I;16') else 'np.asarray'  # Pillow 9 opens it as 32 bits
        with pytest.raises(RequestError, match=advice):
            twice(opened)
    twice.restore_file(tmp_path / 'deep.png', tmp_path / 'result.png')
    result = cv2.imread(str(tmp_path / 'result.png'), cv2.IMREAD_UNCHANGED)
    assert result.shape == (18, 22, 4)
    assert result[8, 10, 3] < 10000 < result[..., 3].max()  # enlarged smoothly


class _Doubtful(torch.nn.Module):
    """Repeats a picture, and gives one value that is no number if its gain is infinite."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = torch.nn.Parameter(torch.tensor(wrong))

    def forward(self, x):
        x = torch.nn.functional.interpolate(x, scale_factor=2)
        x[..., 7, 8] = x[..., 7, 8] + self.wrong.to(x.dtype)
        return x


@pytest.mark.parametrize('wrong', [float('nan'), float('inf')])
def test_a_result_that_is_no_picture_is_an_error(wrong, tmp_path):
    """Rounded to whole numbers, NaN would be black, and infinity white."""
    restorer = Restorer(_Doubtful(wrong), 'cpu', 'fp32')
    pictures = [COLOUR, RGBA, GREY, COLOUR.astype(np.uint16), COLOUR / 255, Image.fromarray(COLOUR)]
    for picture in [*pictures, torch.from_numpy(COLOUR / 255).permute(2, 0, 1)[None]]:
        with pytest.raises(WorkError, match='not finite'):
            restorer(picture)
    Image.fromarray(COLOUR).save(tmp_path / 'photo.png')
    with pytest.raises(WorkError, match='not finite'):
        restorer.restore_file(tmp_path / 'photo.png', tmp_path / 'result.png')
    assert [path.name for path in tmp_path.iterdir()] == ['photo.png']


def test_autocast_of_the_caller_changes_nothing(pdan_small):
    batch = torch.from_numpy(COLOUR / 255).float().permute(2, 0, 1)[None]
    expected = pdan_small(batch)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(pdan_small(batch), expected)


def test_a_network_for_grey_takes_grey_alone():
    class Grey(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 1, 1)

        def forward(self, x):
            return x + 0 * self.layer(x)

    restorer = Restorer(Grey(), 'cpu')
    for picture in (GREY, GREY[..., None], GREY.astype(np.float32) / 255, GREY[..., None].astype(np.float16) / 255):
        np.testing.assert_array_equal(restorer(picture), picture)
    np.testing.assert_array_equal(np.asarray(restorer(Image.fromarray(GREY))), GREY)
    for picture in (COLOUR, RGBA, Image.merge('LA', [Image.fromarray(GREY)] * 2)):
        with pytest.raises(RequestError, match='expected a picture'):
            restorer(picture)
    with pytest.raises(RequestError, match='1 channels'):
        restorer.restore_file('photo.png', 'out.png')
    with pytest.raises(RequestError, match='1 channels'):
        restorer.restore_frames('clip.mp4')


def test_progress_counts_tiles_and_an_exception_in_it_stops_the_work():
    restorer, counts = Restorer(Repeating(2), 'cpu', tile=16, overlap=4), []
    restorer(np.zeros((40, 24, 3), np.uint8), lambda *count: counts.append(count))
    assert counts == [(number, counts[-1][1]) for number in range(1, len(counts) + 1)]
    assert len(counts) == counts[-1][1] > 4
    counts.clear()
    Restorer(Repeating(2), 'cpu')(torch.zeros(3, 3, 8, 8), lambda *count: counts.append(count))
    assert counts == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restorer(COLOUR, stop)
    assert restorer(COLOUR).shape == (18, 22, 3)  # the lock is free again


def test_several_threads_may_use_one_restorer(pdan_small):
    expected, found = pdan_small(COLOUR), {}
    threads = [
        threading.Thread(target=lambda number=number: found.update({number: pdan_small(COLOUR)})) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((result == expected).all() for result in found.values())


@pytest.mark.parametrize('sent', [pickle.dumps, copy.deepcopy])
def test_a_restorer_is_not_sent_to_another_process(twice, sent):
    with pytest.raises(TypeError, match='make one in each process'):
        sent(twice)


@pytest.mark.parametrize(
    ('arguments', 'complaint'),
    [
        ({'weights': 'pdan_smal'}, "did you mean 'pdan_small'"),
        ({'weights': 'absent.pth'}, 'no such weights file'),
        ({'weights': 3}, 'got int'),
        ({'weights': Repeating(2), 'option_file': 'a.yml'}, 'leave them out'),
        ({'device': 'gpu'}, 'device gpu'),
        ({'precision': 'fp64'}, 'fp64'),
        ({'tile': 0}, 'tile'),
        ({'overlap': 1.5}, 'overlap: .*got 1.5'),
        ({'overlap': '8'}, "overlap: .*got '8'"),
        ({'memory': '4G'}, "memory: expected a number of bytes of at least 1, got '4G'"),
        ({'local_pooling': True}, 'local_pooling: .*got True'),
    ],
)
def test_a_restorer_that_cannot_be_made_says_why(arguments, complaint):
    with pytest.raises(RequestError, match=complaint):
        Restorer(**{'device': 'cpu', **arguments})


def test_the_network_is_copied():
    network = Repeating(2)
    restorer = Restorer(network, 'cpu')
    network.gain.data.zero_()
    assert network.training
    np.testing.assert_array_equal(restorer(COLOUR), repeated(COLOUR))


def test_networks_lists_what_restorer_takes():
    assert 'pdan_small' in networks()
    for name, options in networks().items():
        assert type(load_network(name)).__name__ == options['type']


def test_the_names_are_the_package_s():
    assert {'Restorer', 'load_network', 'networks'} <= set(pdan_plugin.__all__)
    with pytest.raises(AttributeError, match='Restore_'):
        _ = pdan_plugin.Restore_


def test_a_file_becomes_a_file(twice, tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), COLOUR[..., ::-1])
    done = twice.restore_file(str(tmp_path / 'photo.png'), tmp_path / 'new/out.tif')
    assert done.path == tmp_path / 'new/out.tif'
    np.testing.assert_array_equal(cv2.imread(str(done.path))[..., ::-1], repeated(COLOUR))
    (tmp_path / 'folder').mkdir()
    assert twice.restore_file(tmp_path / 'photo.png', tmp_path / 'folder').path == tmp_path / 'folder/photo.png'
    before = done.path.read_bytes()
    with pytest.raises(RequestError, match='exists already'):
        twice.restore_file(tmp_path / 'photo.png', done.path)
    (tmp_path / 'broken.png').write_bytes((tmp_path / 'photo.png').read_bytes()[:60])
    with pytest.raises(RequestError, match=r'broken\.png: cannot be decoded'):
        twice.restore_file(tmp_path / 'broken.png', done.path, overwrite=True)
    assert done.path.read_bytes() == before
    with pytest.raises(RequestError, match='folder'):
        twice.restore_file(tmp_path, tmp_path / 'x')
    cv2.imwrite(str(tmp_path / 'deep.png'), COLOUR.astype(np.uint16) * 257)
    with pytest.raises(RequestError, match='8 bits per channel'):
        twice.restore_file(tmp_path / 'deep.png', tmp_path / 'deep.jpg')
    assert not (tmp_path / 'deep.jpg').exists()


def test_an_exception_in_the_progress_of_a_file_stops_it_and_leaves_nothing(twice, tmp_path):
    cv2.imwrite(str(tmp_path / 'photo.png'), COLOUR)

    def stop(done, total):
        raise InterruptedError('stopped by the user')

    with pytest.raises(InterruptedError, match='stopped by the user'):
        twice.restore_file(tmp_path / 'photo.png', tmp_path / 'out.png', on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ['photo.png']


def test_a_result_that_memory_cannot_hold_is_refused_before_the_network_runs(twice, tmp_path, monkeypatch):
    Image.new('RGB', (8, 6)).save(tmp_path / 'photo.png')
    monkeypatch.setattr(picture_jobs, 'free_memory', lambda device: 500)  # of 576 bytes
    with pytest.raises(RequestError, match=r'photo\.png: its result of 16x12 pixels needs .* cut it into parts'):
        twice.restore_file(tmp_path / 'photo.png', tmp_path / 'out.png')
    assert not (tmp_path / 'out.png').exists()
