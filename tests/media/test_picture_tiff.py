"""TIFF: every known layout gives the right pixels, and every other is refused; none is misread."""

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from skimage import data

from pdan_plugin.media.picture_files import PictureFileError, read_picture, read_picture_header
from pdan_plugin.media.picture_writing import write_picture

PHOTO = np.ascontiguousarray(data.astronaut()[100:167, 200:251])
DEEP = PHOTO.astype(np.uint16) * np.uint16(257) ^ np.uint16(5)  # the low bytes matter
GREY = DEEP[..., 0]
KINDS = {
    'rgb': DEEP, 'rgba': np.dstack([DEEP, GREY[::-1]]), 'grey': GREY, 'grey and alpha': np.dstack([GREY, GREY[::-1]]),
    'rgb of 8 bits': PHOTO, 'grey of 8 bits': PHOTO[..., 0],
}  # fmt: skip


def write(path, pixels, *, planar='contig', order='<', **options):
    """A TIFF by tifffile of (h, w) or (h, w, c)."""
    stored = np.moveaxis(pixels, -1, 0) if planar == 'separate' and pixels.ndim == 3 else pixels
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    options.setdefault('photometric', 'rgb' if channels > 2 else 'minisblack')
    if pixels.ndim == 3:
        options['planarconfig'] = planar
    if channels in (2, 4):
        options.setdefault('extrasamples', ['unassalpha'])
    stored = np.ascontiguousarray(stored).astype(pixels.dtype.newbyteorder(order))
    tifffile.imwrite(path, stored, byteorder=order, metadata=None, **options)


def pixels_of(path):
    picture = read_picture(path)
    assert picture.colour.shape[2:] == (3,)
    colour = picture.colour[..., 0] if picture.is_grey else picture.colour
    return colour if picture.alpha is None else np.dstack([colour, picture.alpha])


LAYOUTS = list(itertools.product(['contig', 'separate'], [None, (32, 16)], [None, 'zlib', 'predicted zlib'], '<>'))


@pytest.mark.parametrize('kind', KINDS)
def test_planes_tiles_byte_orders_and_predictors(tmp_path, kind):
    for number, (planar, tile, compression, order) in enumerate(LAYOUTS):
        write(
            tmp_path / 'a.tif',
            KINDS[kind],
            planar=planar,
            order=order,
            tile=tile,
            compression=compression and 'zlib',
            predictor=2 if compression == 'predicted zlib' else None,
            rowsperstrip=None if tile else 13,
            bigtiff=number % 2 == 1,
        )
        np.testing.assert_array_equal(pixels_of(tmp_path / 'a.tif'), KINDS[kind], str(LAYOUTS[number]))
    assert read_picture_header(tmp_path / 'a.tif').size == (67, 51)


@pytest.mark.parametrize('compression', [5, 32773, 8, 32946])
def test_16_bits_compressed_by_opencv_s_libtiff(tmp_path, compression):
    """LZW and deflate have a predictor there. OpenCV does not say that the fourth channel is alpha."""
    for pixels in (DEEP, np.dstack([DEEP, GREY]), GREY):
        order = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        cv2.imwrite(str(tmp_path / 'a.tif'), order, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        np.testing.assert_array_equal(pixels_of(tmp_path / 'a.tif'), pixels)


@pytest.mark.parametrize('compression', ['tiff_lzw', 'packbits', 'tiff_adobe_deflate', 'group3', 'group4', 'raw'])
def test_bits_and_palettes_of_every_compression(tmp_path, compression):
    few, bits = Image.fromarray(PHOTO).quantize(12), Image.fromarray(PHOTO[..., 0] > 99)
    bits.save(tmp_path / 'bits.tif', compression=compression)
    np.testing.assert_array_equal(pixels_of(tmp_path / 'bits.tif'), np.where(PHOTO[..., 0] > 99, 255, 0))
    if not compression.startswith('group'):
        few.save(tmp_path / 'few.tif', compression=compression)
        np.testing.assert_array_equal(pixels_of(tmp_path / 'few.tif'), np.asarray(few.convert('RGB')))


@pytest.mark.parametrize('bits', [1, 2, 4, 6, 10, 12, 14])
def test_white_is_white_whatever_the_number_of_bits(tmp_path, bits):
    """Rows of packed numbers begin with a byte; written by hand, because no library at hand packs them."""
    highest = (1 << bits) - 1
    stored = PHOTO[..., 0].astype(np.uint32) * highest // 255
    stored[0, 0] = highest
    rows = [''.join(f'{value:0{bits}b}' for value in row) for row in stored]
    packed = b''.join(int(row.ljust(-(-len(row) // 8) * 8, '0'), 2).to_bytes(-(-len(row) // 8), 'big') for row in rows)
    for order, is_reversed in itertools.product('<>', (False, True)):
        content = bytes(int(f'{byte:08b}'[::-1], 2) for byte in packed) if is_reversed else packed
        tags = {
            256: 51, 257: 67, 258: bits, 259: 1, 262: 1, 266: 2 if is_reversed else 1, 273: 0, 277: 1, 278: 67,
            279: len(content),
        }  # fmt: skip
        start = 8 + 2 + 12 * len(tags) + 4
        table = b''.join(struct.pack(f'{order}HHII', tag, 4, 1, value or start) for tag, value in tags.items())
        begin = struct.pack(f'{order}2sHIH', b'II' if order == '<' else b'MM', 42, 8, len(tags))
        (tmp_path / 'a.tif').write_bytes(begin + table + bytes(4) + content)
        expected = np.round(stored * ((255 if bits < 8 else 65535) / highest))
        np.testing.assert_array_equal(pixels_of(tmp_path / 'a.tif'), expected)


def test_jpeg_cmyk_inverted_and_premultiplied(tmp_path):
    for mode in ('RGB', 'L', 'CMYK'):
        image = Image.fromarray(PHOTO).convert(mode)
        image.save(tmp_path / 'jpeg.tif', compression='jpeg', quality=95)
        with Image.open(tmp_path / 'jpeg.tif') as decoded:
            np.testing.assert_array_equal(
                pixels_of(tmp_path / 'jpeg.tif'), np.asarray(decoded.convert('L' if mode == 'L' else 'RGB'))
            )
    inks = np.dstack([PHOTO, PHOTO[..., :1]])
    for planar in ('contig', 'separate'):
        write(tmp_path / 'inks.tif', inks, planar=planar, photometric='separated', extrasamples=None)
        expected = Image.frombytes('CMYK', (51, 67), inks.tobytes()).convert('RGB')
        np.testing.assert_array_equal(pixels_of(tmp_path / 'inks.tif'), np.asarray(expected))
    write(tmp_path / 'negative.tif', 65535 - GREY, photometric='miniswhite')
    np.testing.assert_array_equal(pixels_of(tmp_path / 'negative.tif'), GREY)
    half = np.dstack([DEEP // 2, np.full_like(GREY, 32768)])
    write(tmp_path / 'half.tif', half, extrasamples=['assocalpha'])
    found = read_picture(tmp_path / 'half.tif')
    assert np.abs(found.colour.astype(int) - DEEP).max() <= 2
    assert (found.alpha == 32768).all()


def test_channels_beside_the_colours(tmp_path):
    write(tmp_path / 'six.tif', np.dstack([DEEP, DEEP]))
    assert read_picture(tmp_path / 'six.tif').notes == ('3 channels beside its colours were left out',)
    np.testing.assert_array_equal(pixels_of(tmp_path / 'six.tif'), DEEP)


def test_smaller_copies_are_no_pages(tmp_path):
    small = {'subfiletype': 1, 'photometric': 'rgb', 'metadata': None}
    for small_first in (False, True):
        with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
            if small_first:
                file.write(PHOTO[::4, ::4], **small)
            file.write(DEEP, photometric='rgb', metadata=None)
            if not small_first:
                file.write(PHOTO[::4, ::4], **small)
        np.testing.assert_array_equal(pixels_of(tmp_path / 'a.tif'), DEEP)


@pytest.mark.parametrize('is_big', [False, True])
def test_orientation_resolution_and_describing_tags(tmp_path, is_big):
    """Against EXIF's meaning of 6: the picture is turned clockwise."""
    tags = [(271, 2, 6, 'Maker', True), (274, 3, 1, 6, True)]
    write(tmp_path / 'a.tif', DEEP, bigtiff=is_big, extratags=tags, resolution=(100, 200), resolutionunit=3)
    picture = read_picture(tmp_path / 'a.tif')
    np.testing.assert_array_equal(picture.colour, np.rot90(DEEP, -1))
    assert picture.dpi == pytest.approx((508, 254))
    exif = Image.Exif()
    exif.load(picture.exif)
    assert exif[ExifTags.Base.Make] == 'Maker'
    assert ExifTags.Base.Orientation not in exif
    assert ExifTags.Base.ImageWidth not in exif


REFUSED = {
    'signed': (DEEP.view(np.int16), {}, 'signed numbers'),
    'signed of 8 bits': (PHOTO.view(np.int8), {}, 'signed numbers'),
    'floats': (PHOTO.astype(np.float32), {}, 'floating-point'),
    'half floats': (PHOTO.astype(np.float16), {}, 'floating-point'),
    '32 bits': (PHOTO.astype(np.uint32), {}, '32 bits per channel'),
    'two measurements': (DEEP[..., :2], {'extrasamples': [0]}, 'not said to be one picture'),
    'five measurements': (np.dstack([DEEP, DEEP])[..., :5], {'photometric': 'minisblack'}, 'not said to be one'),
    'Lab': (PHOTO, {'photometric': 'cielab'}, 'Lab'),
    'camera': (GREY, {'photometric': 'cfa'}, 'raw camera data'),
    'deep CMYK': (np.dstack([DEEP, GREY]), {'photometric': 'separated', 'extrasamples': None}, 'CMYK with more than 8'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_what_is_not_known_is_refused(tmp_path, kind):
    pixels, options, reason = REFUSED[kind]
    write(tmp_path / 'a.tif', pixels, **options)
    with pytest.raises(PictureFileError, match=reason):
        read_picture(tmp_path / 'a.tif')


def test_pages_and_volumes_are_refused(tmp_path):
    for options, reason in [
        ({'photometric': 'rgb', 'metadata': None}, '16 pages'),
        ({'photometric': 'rgb', 'truncate': True}, '16 pages'),
        ({'photometric': 'rgb', 'volumetric': True, 'tile': (16, 16, 16), 'metadata': None}, 'volume'),
    ]:
        tifffile.imwrite(tmp_path / 'a.tif', np.stack([PHOTO] * 16), **options)
        with pytest.raises(PictureFileError, match=reason):
            read_picture(tmp_path / 'a.tif')
    tifffile.imwrite(tmp_path / 'a.tif', np.stack([GREY] * 3), imagej=True)  # one page for three pictures
    with pytest.raises(PictureFileError, match='3 pages'):
        read_picture(tmp_path / 'a.tif')


def test_damage_is_found(tmp_path):
    write(tmp_path / 'a.tif', DEEP)
    write(tmp_path / 'b.tif', DEEP, compression='zlib', rowsperstrip=8)
    cv2.imwrite(str(tmp_path / 'c.tif'), DEEP)
    for name in 'abc':
        content = (tmp_path / f'{name}.tif').read_bytes()
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            end = file.pages[0].dataoffsets[-1] + file.pages[0].databytecounts[-1]
        (tmp_path / 'cut.tif').write_bytes(content[: end - 60])
        with pytest.raises(PictureFileError, match='truncated'):
            read_picture(tmp_path / 'cut.tif')
    struck = bytearray((tmp_path / 'b.tif').read_bytes())
    struck[-40:-30] = bytes(10)
    for content in (struck, b'II*\0', b'II*\0' + b'\xff' * 100, b'MM\0*\0\0\0\x08\0\1' + b'\1' * 40):
        (tmp_path / 'bad.tif').write_bytes(content)
        with pytest.raises(PictureFileError, match=r'damaged|does not state'):
            read_picture(tmp_path / 'bad.tif')


def test_16_bits_are_written_with_their_profile_and_read_by_others(tmp_path):
    for pixels in (DEEP, np.dstack([DEEP, GREY]), GREY, np.dstack([GREY, GREY[::-1]])):
        write(tmp_path / 'a.tif', pixels)
        write_picture(tmp_path / 'b.tif', read_picture(tmp_path / 'a.tif'))
        np.testing.assert_array_equal(tifffile.imread(tmp_path / 'b.tif'), pixels)
