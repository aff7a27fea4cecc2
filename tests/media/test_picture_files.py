"""Reading and writing picture files: every common kind comes through, and what cannot is named with its reason."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from png_files import png_16, png_of
from skimage import data

from pdan_plugin.media.picture_files import PictureFileError, read_picture
from pdan_plugin.media.picture_writing import what_ending_cannot_hold, write_picture

PHOTO = np.ascontiguousarray(data.astronaut()[100:140, 200:230])
RAMP = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def deep(values):
    """uint16 whose low bytes matter."""
    return values.astype(np.uint16) * np.uint16(257) ^ np.uint16(5)


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.webp'])
def test_8_bit_colour_and_grey_come_back_as_they_were(tmp_path, suffix):
    for array, is_grey in [(PHOTO, False), (RAMP, suffix != '.webp')]:
        options = {'lossless': True} if suffix == '.webp' else {}
        Image.fromarray(array).save(tmp_path / f'in{suffix}', **options)
        picture = read_picture(tmp_path / f'in{suffix}')
        assert picture.is_grey == is_grey
        assert picture.alpha is None
        write_picture(tmp_path / f'out{suffix}', picture)
        again = np.asarray(Image.open(tmp_path / f'out{suffix}').convert('RGB'))
        np.testing.assert_array_equal(again, array if array.ndim == 3 else np.dstack([array] * 3))
    assert not list(tmp_path.glob('.*'))


WITHOUT_ISAL = """
import sys
from pathlib import Path
sys.modules['isal'] = None
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_writing import write_picture
write_picture(Path('out.png'), read_picture(Path('in.png')))
assert not any(name.startswith('isal.') for name in sys.modules)
"""


def test_where_isal_is_not_built_zlib_compresses(tmp_path, python):
    Image.fromarray(PHOTO).save(tmp_path / 'in.png')
    done = python(WITHOUT_ISAL)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'out.png')), PHOTO)


@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_come_back_to_the_last_bit(tmp_path, suffix):
    with_alpha = np.dstack([deep(PHOTO), deep(RAMP)])
    for array in (deep(PHOTO), with_alpha, deep(RAMP)):
        order = array if array.ndim == 2 else array[..., [2, 1, 0, 3][: array.shape[2]]]
        cv2.imwrite(str(tmp_path / f'in{suffix}'), order)
        picture = read_picture(tmp_path / f'in{suffix}')
        assert picture.bits == 16
        assert picture.is_grey == (array.ndim == 2)
        write_picture(tmp_path / f'out{suffix}', picture)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f'out{suffix}'), cv2.IMREAD_UNCHANGED), order)


def test_rare_16_bit_pngs(tmp_path):
    grey, alpha = deep(RAMP), deep(RAMP[::-1])
    (tmp_path / 'grey_alpha.png').write_bytes(png_16(4, np.dstack([grey, alpha])))
    picture = read_picture(tmp_path / 'grey_alpha.png')
    assert picture.is_grey
    np.testing.assert_array_equal(picture.colour[..., 1], grey)
    np.testing.assert_array_equal(picture.alpha, alpha)
    key = (b'tRNS', struct.pack('>H', int(grey[20, 7])))
    (tmp_path / 'key.png').write_bytes(png_16(0, grey, key))
    np.testing.assert_array_equal(read_picture(tmp_path / 'key.png').alpha == 0, grey == grey[20, 7])


def test_palettes_bits_and_transparent_colours(tmp_path):
    few = Image.fromarray(PHOTO).quantize(12)
    few.save(tmp_path / 'palette.png')
    np.testing.assert_array_equal(read_picture(tmp_path / 'palette.png').colour, np.asarray(few.convert('RGB')))
    few.save(tmp_path / 'cut_out.png', transparency=3)
    np.testing.assert_array_equal(read_picture(tmp_path / 'cut_out.png').alpha == 0, np.asarray(few) == 3)
    Image.fromarray(RAMP > 99).save(tmp_path / 'bits.png')
    bits = read_picture(tmp_path / 'bits.png')
    assert bits.is_grey
    np.testing.assert_array_equal(bits.colour[..., 2], np.where(RAMP > 99, 255, 0))


@pytest.mark.parametrize('kind', [np.uint8, np.uint16])
def test_a_tiff_whose_white_is_zero_is_inverted(tmp_path, kind):
    grey = (data.camera()[::8, ::8].astype(np.uint32) * (np.iinfo(kind).max // 255)).astype(kind)
    Image.fromarray(np.iinfo(kind).max - grey).save(tmp_path / 'negative.tif')
    content = bytearray((tmp_path / 'negative.tif').read_bytes())
    place = content.index(struct.pack('<HHI', 262, 3, 1))  # PhotometricInterpretation, one short: 0 is WhiteIsZero
    content[place + 8 : place + 10] = bytes(2)
    (tmp_path / 'negative.tif').write_bytes(content)
    picture = read_picture(tmp_path / 'negative.tif')
    assert picture.is_grey
    np.testing.assert_array_equal(picture.colour[..., 0], grey)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_turned_photograph_is_upright_and_its_tag_is_gone(tmp_path, orientation):
    """Against Pillow's own transposition; other EXIF and the colour profile stay."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = 'Maker'
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ISOSpeedRatings: 320, ExifTags.Base.ExifImageWidth: 30}
    exif[ExifTags.IFD.GPSInfo] = {1: 'N'}
    how = {'exif': exif, 'icc_profile': SRGB, 'dpi': (300, 150)}
    Image.fromarray(PHOTO).save(tmp_path / 'in.png', **how)
    with Image.open(tmp_path / 'in.png') as image:
        turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
        expected = np.asarray(image if turned is None else image.transpose(Image.Transpose(turned)))
    picture = read_picture(tmp_path / 'in.png')
    np.testing.assert_array_equal(picture.colour, expected)
    for bits in (8, 16):
        colour = picture.colour if bits == 8 else deep(picture.colour)
        write_picture(
            tmp_path / 'out.png', type(picture)(colour, None, False, picture.icc_profile, picture.exif, picture.dpi)
        )
        with Image.open(tmp_path / 'out.png') as image:
            image.load()
            written = image.getexif()
            assert image.info['icc_profile'] == SRGB
            across, down = (150, 300) if orientation > 4 else (300, 150)
            assert image.info['dpi'] == pytest.approx((across, down), abs=0.1)
        assert ExifTags.Base.Orientation not in written
        assert written[ExifTags.Base.Make] == 'Maker'
        assert dict(written.get_ifd(ExifTags.IFD.Exif)) == {ExifTags.Base.ISOSpeedRatings: 320}
        assert written.get_ifd(ExifTags.IFD.GPSInfo)[1] == 'N'


def test_cmyk_is_converted_and_says_how(tmp_path):
    Image.fromarray(PHOTO).convert('CMYK').save(tmp_path / 'print.jpg', quality=95)
    picture = read_picture(tmp_path / 'print.jpg')
    assert 'CMYK without a usable profile' in picture.notes[0]
    assert np.abs(picture.colour.astype(int) - PHOTO).mean() < 6


def whole(kind, **options):
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, kind, **options)
    return file.getvalue()


def several(kind):
    file, images = io.BytesIO(), [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1])]
    images[0].save(file, kind, save_all=True, append_images=images[1:])
    return file.getvalue()


def floats():
    file = io.BytesIO()
    Image.fromarray(RAMP.astype(np.float32)).save(file, 'TIFF')
    return file.getvalue()


def deep_png():
    return cv2.imencode('.png', deep(PHOTO))[1].tobytes()


def half_a_png():
    """Its compressed pixels end at half its rows, and other bytes follow them."""
    header = struct.pack('>IIBBBBB', 64, 64, 8, 0, 0, 0, 0)
    rows = zlib.compress(b'\0' * (65 * 32)) + b'and more'
    return png_of([(b'IHDR', header), (b'IDAT', rows), (b'IEND', b'')])


BAD = {
    'half.png': (half_a_png, '50% of its pixels are there'),
    'nothing.png': (lambda: b'', 'is empty'),
    'text.png': (lambda: b'Dear reader,\n' * 40, 'cannot be decoded as a picture'),
    'cut.png': (lambda: whole('PNG')[:-900], 'truncated or damaged'),
    'cut.jpg': (lambda: whole('JPEG')[:-300], 'truncated or damaged'),
    'cut.webp': (lambda: whole('WEBP')[:-300], 'cannot be decoded|truncated or damaged'),
    'cut_deep.png': (lambda: deep_png()[:-900], 'truncated or damaged'),
    'flipped_deep.png': (lambda: deep_png()[:900] + b'?' + deep_png()[901:], 'truncated or damaged'),
    'float.tif': (floats, 'floating-point'),
    'pages.tif': (lambda: several('TIFF'), '2 pages'),
    'moving.png': (lambda: several('PNG'), '2 animated frames'),
    'moving.webp': (lambda: several('WEBP'), '2 animated frames'),
}


@pytest.mark.parametrize('name', BAD)
def test_what_is_no_picture_says_why(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content())
    with pytest.raises(PictureFileError, match=reason):
        read_picture(tmp_path / name)


def test_an_ending_that_cannot_hold_the_picture_is_told(tmp_path):
    Image.fromarray(np.dstack([PHOTO, RAMP])).save(tmp_path / 'cut_out.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), deep(PHOTO))
    cut_out, is_deep = read_picture(tmp_path / 'cut_out.png'), read_picture(tmp_path / 'deep.png')
    assert 'transparency' in what_ending_cannot_hold(cut_out, '.JPG')
    assert '8 bits' in what_ending_cannot_hold(is_deep, '.jpg')
    assert '16383' in what_ending_cannot_hold(cut_out, '.webp', (500, 20_000))
    assert what_ending_cannot_hold(cut_out, '.webp') is None
    assert what_ending_cannot_hold(is_deep, '.tiff') is None
    with pytest.raises(ValueError, match='transparency'):
        write_picture(tmp_path / 'out.jpg', cut_out)
    assert not (tmp_path / 'out.jpg').exists()


def test_a_folder_is_told_as_one(tmp_path):
    with pytest.raises(PictureFileError, match='is a folder; give a file in it'):
        read_picture(tmp_path)
