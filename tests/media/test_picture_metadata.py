"""What a file says beside its pixels: chunks of any size, profiles, colour marks, XMP and EXIF, carried or reported."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from skimage import data

from pdan_plugin.media.picture_files import Picture, PictureFileError, read_picture, read_picture_header
from pdan_plugin.media.picture_profile import profile_colours
from pdan_plugin.media.picture_writing import what_ending_cannot_hold, what_ending_leaves_out, write_picture

PHOTO = np.ascontiguousarray(data.astronaut()[100:140, 200:230])
GREY = np.ascontiguousarray(PHOTO[..., 1])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = (
    b'<x:xmpmeta><rdf:Description tiff:Orientation="6" exif:PixelXDimension="30" xmp:Rating="4">'
    b'<tiff:ImageWidth>30</tiff:ImageWidth></rdf:Description></x:xmpmeta>'
)


def profile_for(colours, size=0):
    """sRGB's profile with another colour space in its header: enough for the question whether it fits."""
    return SRGB[:16] + colours + SRGB[20:] + np.random.default_rng(0).bytes(size)


def chunk(kind, content):
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def with_chunks(pixels, *chunks):
    """A PNG of (h, w), grey and alpha, RGB or RGBA, 8 or 16 bits, with these chunks."""
    channels = (*pixels.shape, 1)[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack('>IIBBBBB', *pixels.shape[1::-1], 8 * pixels.itemsize, kind, 0, 0, 0)
    rows = b''.join(b'\0' + row.astype(f'>u{pixels.itemsize}').tobytes() for row in pixels)
    parts = [(b'IHDR', header), *chunks, (b'IDAT', zlib.compress(rows)), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*each) for each in parts)


def profile_chunk(profile):
    return b'iCCP', b'made\0\0' + zlib.compress(profile)


def text_chunk(text, keyword=b'parameters', compressed=False):
    return b'iTXt', keyword + b'\0' + bytes([compressed, 0]) + b'\0\0' + (zlib.compress(text) if compressed else text)


def chunks_of(path):
    """{type: content} of a PNG, whose checksums are right."""
    content, place, found = path.read_bytes(), 8, {}
    while place < len(content):
        length, kind = struct.unpack_from('>I4s', content, place)
        body = content[place + 8 : place + 8 + length]
        assert chunk(kind, body) == content[place : place + 12 + length]
        found[kind], place = body, place + 12 + length
    return found


@pytest.mark.parametrize('pixels', [PHOTO, PHOTO.astype(np.uint16) * 257], ids=['8', '16'])
@pytest.mark.parametrize('compressed', [False, True])
def test_texts_and_profiles_of_any_size(tmp_path, pixels, compressed):
    """Pillow refuses texts and profiles above 1 MiB."""
    text = b'a castle, highly detailed, ' * 60_000
    profile = profile_for(b'RGB ', 1_300_000)
    chunks = [text_chunk(text, compressed=compressed), profile_chunk(profile)]
    (tmp_path / 'a.png').write_bytes(with_chunks(pixels, *chunks))
    picture = read_picture(tmp_path / 'a.png')
    np.testing.assert_array_equal(picture.colour, pixels)
    assert picture.icc_profile == profile
    write_picture(tmp_path / 'b.png', picture)
    assert chunks_of(tmp_path / 'b.png')[b'iTXt'] == chunks[0][1]
    again = read_picture(tmp_path / 'b.png')
    assert again.icc_profile == profile
    np.testing.assert_array_equal(again.colour, pixels)
    assert 'its texts' in what_ending_leaves_out(picture, '.tif')


def test_a_jpeg_with_a_large_profile_becomes_a_png_that_is_read(tmp_path):
    profile = profile_for(b'RGB ', 1_300_000)
    Image.fromarray(PHOTO).save(tmp_path / 'a.jpg', icc_profile=profile)
    write_picture(tmp_path / 'b.png', read_picture(tmp_path / 'a.jpg'))
    assert read_picture(tmp_path / 'b.png').icc_profile == profile


def test_damaged_and_oversized_chunks_cost_themselves_alone(tmp_path):
    (tmp_path / 'a.png').write_bytes(
        with_chunks(PHOTO, (b'iCCP', b'made\0\0nonsense'), (b'zTXt', b'bomb\0\0' + zlib.compress(bytes(10)) + b''))
    )
    picture = read_picture(tmp_path / 'a.png')
    assert 'iCCP cannot be read' in picture.notes[0]
    content = bytearray(with_chunks(PHOTO, text_chunk(b'hello')))
    content[content.index(b'hello')] = ord('y')
    (tmp_path / 'b.png').write_bytes(content)
    assert 'iTXt is damaged' in read_picture(tmp_path / 'b.png').notes[0]
    (tmp_path / 'c.png').write_bytes(with_chunks(PHOTO)[:-16])  # in the pixels
    with pytest.raises(PictureFileError, match='truncated or damaged'):
        read_picture(tmp_path / 'c.png')
    (tmp_path / 'd.png').write_bytes(with_chunks(PHOTO)[:-12])  # only the end is missing
    np.testing.assert_array_equal(read_picture(tmp_path / 'd.png').colour, PHOTO)


@pytest.mark.parametrize('frames', [1, 2])
def test_an_animation_of_one_frame_is_a_picture(tmp_path, frames):
    control = struct.pack('>IIIIIHHBB', 0, 30, 40, 0, 0, 1, 10, 0, 0)
    for bits in (PHOTO, PHOTO.astype(np.uint16)):
        shown = with_chunks(bits, (b'acTL', struct.pack('>II', frames, 0)), (b'fcTL', control))
        (tmp_path / 'a.png').write_bytes(shown)
        if frames == 1:
            np.testing.assert_array_equal(read_picture(tmp_path / 'a.png').colour, bits)
        else:
            with pytest.raises(PictureFileError, match='2 animated frames'):
                read_picture(tmp_path / 'a.png')
        hidden = with_chunks(bits, (b'acTL', struct.pack('>II', frames, 0)))  # the picture is no frame
        (tmp_path / 'a.png').write_bytes(hidden)
        with pytest.raises(PictureFileError, match=f'{frames + 1} animated frames'):
            read_picture(tmp_path / 'a.png')


def mode_and_profile(path):
    with Image.open(path) as image:
        profile = image.info.get('icc_profile')
        return image.mode, None if profile is None else profile_colours(profile)


FITS = [
    # pixels, the profile's colours, ending -> mode and colours of the result
    (GREY, b'GRAY', '.png', ('L', 'GRAY')),
    (GREY, b'GRAY', '.jpg', ('L', 'GRAY')),
    (GREY, b'GRAY', '.tif', ('L', 'GRAY')),
    (GREY, b'GRAY', '.webp', ('RGB', None)),
    (GREY, b'GRAY', '.bmp', ('L', None)),
    (GREY, b'RGB ', '.png', ('RGB', 'RGB')),
    (GREY, b'RGB ', '.jpg', ('RGB', 'RGB')),
    (GREY, b'RGB ', '.tif', ('RGB', 'RGB')),
    (GREY, b'RGB ', '.webp', ('RGB', 'RGB')),
    (GREY, b'CMYK', '.png', ('L', None)),
    (np.dstack([GREY, GREY]), b'GRAY', '.png', ('LA', 'GRAY')),
    (np.dstack([GREY, GREY]), b'GRAY', '.webp', ('RGBA', None)),
    (np.dstack([GREY, GREY]), b'RGB ', '.png', ('RGBA', 'RGB')),
    (PHOTO, b'RGB ', '.png', ('RGB', 'RGB')),
    (PHOTO, b'GRAY', '.png', ('RGB', None)),
    (PHOTO, b'Lab ', '.tif', ('RGB', None)),
    (PHOTO, b'CMYK', '.jfif', ('RGB', None)),
]


@pytest.mark.parametrize(('pixels', 'colours', 'ending', 'expected'), FITS)
def test_a_profile_is_written_only_into_a_picture_it_fits(tmp_path, pixels, colours, ending, expected):
    (tmp_path / 'a.png').write_bytes(with_chunks(pixels, profile_chunk(profile_for(colours))))
    picture = read_picture(tmp_path / 'a.png')
    write_picture(tmp_path / f'b{ending}', picture)
    assert mode_and_profile(tmp_path / f'b{ending}') == expected
    reported = ' '.join([*picture.notes, what_ending_leaves_out(picture, ending) or ''])
    assert ('its colour profile' in reported) == (expected[1] is None)
    if ending not in ('.jpg', '.jfif'):
        with Image.open(tmp_path / f'b{ending}') as image:
            np.testing.assert_array_equal(np.asarray(image.convert('RGB'))[..., 1], GREY)


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('colours', [b'GRAY', b'RGB '])
def test_16_bits_with_profiles_are_written_in_a_colour_type_that_takes_them(tmp_path, channels, colours):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 11, channels)).astype(np.uint16)
    pixels = pixels[..., 0] if channels == 1 else pixels
    (tmp_path / 'a.png').write_bytes(with_chunks(pixels, profile_chunk(profile_for(colours))))
    write_picture(tmp_path / 'b.png', read_picture(tmp_path / 'a.png'))
    found = chunks_of(tmp_path / 'b.png')
    is_grey, has_profile = found[b'IHDR'][9] in (0, 4), b'iCCP' in found
    assert is_grey == (channels < 3 and colours == b'GRAY')
    assert has_profile == (channels < 3 or colours == b'RGB ')
    with_alpha = channels in (2, 4)
    decoded = cv2.imread(str(tmp_path / 'b.png'), cv2.IMREAD_UNCHANGED)
    if channels < 3:
        values = pixels if channels == 1 else pixels[..., 0]
        np.testing.assert_array_equal(decoded if decoded.ndim == 2 else decoded[..., 0], values)
    else:
        np.testing.assert_array_equal(decoded[..., 2::-1], pixels[..., :3])
    if with_alpha:
        np.testing.assert_array_equal(decoded[..., 3], pixels[..., -1])


def test_a_cmyk_jpeg_whose_profile_is_for_rgb_is_converted_by_the_plain_formula(tmp_path):
    Image.fromarray(PHOTO).convert('CMYK').save(tmp_path / 'a.jpg', quality=95, icc_profile=SRGB)
    picture = read_picture(tmp_path / 'a.jpg')
    assert 'CMYK without a usable profile' in picture.notes[0]
    assert picture.icc_profile is None
    assert np.abs(picture.colour.astype(int) - PHOTO).mean() < 6


MARKS = [(b'gAMA', struct.pack('>I', 100000)), (b'cICP', bytes([9, 16, 0, 1])), (b'cLLI', struct.pack('>II', 1, 2))]


@pytest.mark.parametrize('pixels', [PHOTO, GREY.astype(np.uint16) * 257], ids=['8', '16'])
def test_colour_marks_are_carried_into_a_png_and_reported_elsewhere(tmp_path, pixels):
    (tmp_path / 'a.png').write_bytes(with_chunks(pixels, *MARKS))
    picture = read_picture(tmp_path / 'a.png')
    write_picture(tmp_path / 'b.png', picture)
    written = chunks_of(tmp_path / 'b.png')
    assert [written[kind] for kind, _ in MARKS] == [content for _, content in MARKS]
    reported = what_ending_leaves_out(picture, '.tif')
    assert 'its cICP' in reported
    (tmp_path / 'linear.png').write_bytes(with_chunks(pixels, MARKS[0]))
    assert 'its gAMA' in what_ending_leaves_out(read_picture(tmp_path / 'linear.png'), '.tif')
    usual = with_chunks(pixels, (b'sRGB', b'\0'), (b'gAMA', struct.pack('>I', 45455)))
    (tmp_path / 'usual.png').write_bytes(usual)
    assert what_ending_leaves_out(read_picture(tmp_path / 'usual.png'), '.tif') is None


def sources_of_xmp(folder):
    """A file of each kind that holds XMP."""
    (folder / 'a.png').write_bytes(with_chunks(PHOTO, text_chunk(XMP, b'XML:com.adobe.xmp')))
    (folder / 'packed.png').write_bytes(with_chunks(PHOTO, text_chunk(XMP, b'XML:com.adobe.xmp', compressed=True)))
    Image.fromarray(PHOTO).save(folder / 'a.webp', lossless=True, xmp=XMP)
    content = b'http://ns.adobe.com/xap/1.0/\0' + XMP
    Image.fromarray(PHOTO).save(folder / 'a.jpg', extra=b'\xff\xe1' + struct.pack('>H', len(content) + 2) + content)
    tags = Image.Exif()
    tags[700] = XMP
    Image.fromarray(PHOTO).save(folder / 'a.tif', exif=tags)


@pytest.mark.parametrize('name', ['a.png', 'packed.png', 'a.webp', 'a.jpg', 'a.tif'])
def test_xmp_is_carried_without_what_is_no_longer_true(tmp_path, name):
    """The orientation in it is applied, as Pillow does, and is gone; so are the sizes."""
    sources_of_xmp(tmp_path)
    picture = read_picture(tmp_path / name)
    assert picture.colour.shape == (30, 40, 3)
    for ending in ('.png', '.webp', '.jpg', '.tif'):
        write_picture(tmp_path / f'out{ending}', picture)
        again = read_picture(tmp_path / f'out{ending}')
        assert again.colour.shape == (30, 40, 3)
        assert b'xmp:Rating="4"' in again.xmp
        assert not any(word in again.xmp for word in (b'Orientation', b'PixelXDimension', b'ImageWidth'))
    assert 'its XMP' in what_ending_leaves_out(picture, '.bmp')
    large = Picture(PHOTO, xmp=XMP * 1000)
    assert 'its XMP' in what_ending_leaves_out(large, '.jpg')
    write_picture(tmp_path / 'large.jpg', large)
    assert read_picture(tmp_path / 'large.jpg').xmp is None


def test_exif_that_a_jpeg_cannot_hold_is_reported_before_the_work(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = 'x' * 70_000
    for size, held in [(70_000, False), (65_000, True)]:
        exif[ExifTags.Base.ImageDescription] = 'x' * size
        Image.fromarray(PHOTO).save(tmp_path / 'a.png', exif=exif)
        picture = read_picture(tmp_path / 'a.png')
        for ending in ('.jpg', '.jfif'):
            reason = what_ending_cannot_hold(picture, ending)
            assert (reason is None) == held
            assert held or 'at most 65527 bytes of EXIF' in reason
        assert what_ending_cannot_hold(picture, '.png') is None
    write_picture(tmp_path / 'b.jpg', picture)
    assert read_picture(tmp_path / 'b.jpg').exif == picture.exif


def test_exif_of_imagemagick_s_texts_turns_a_picture_once(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, 'Maker'
    content = exif.tobytes()
    text = b'\nexif\n%8d\n%s\n' % (len(content), content.hex().encode())
    (tmp_path / 'a.png').write_bytes(with_chunks(PHOTO, (b'tEXt', b'Raw profile type exif\0' + text)))
    picture = read_picture(tmp_path / 'a.png')
    np.testing.assert_array_equal(picture.colour, np.rot90(PHOTO, -1))
    write_picture(tmp_path / 'b.png', picture)
    again = read_picture(tmp_path / 'b.png')
    np.testing.assert_array_equal(again.colour, picture.colour)
    assert 'Maker' in str(dict(Image.open(tmp_path / 'b.png').getexif()))


def test_numbers_of_more_than_8_bits_outside_tiff_and_png(tmp_path):
    deep = data.astronaut()[:128, :160].astype(np.uint16) * 257 ^ np.uint16(5)
    for ending in ('.ppm', '.jp2'):
        cv2.imwrite(str(tmp_path / f'a{ending}'), deep)
        expected = cv2.imread(str(tmp_path / f'a{ending}'), cv2.IMREAD_UNCHANGED)[..., ::-1]
        np.testing.assert_array_equal(read_picture(tmp_path / f'a{ending}').colour, expected)
    (tmp_path / 'b.ppm').write_bytes(b'P6 2 1 1023\n' + bytes(12))
    with pytest.raises(PictureFileError, match='white of 1023'):
        read_picture(tmp_path / 'b.ppm')


@pytest.mark.parametrize('ending', ['.png', '.tif', '.jpg', '.webp'])
def test_pillow_s_limit_on_pixels_does_not_count_and_stays_as_it_was(tmp_path, monkeypatch, ending):
    """A limit below a small picture stands for Pillow's own, 178 megapixels."""
    Image.fromarray(PHOTO).save(tmp_path / f'a{ending}')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert read_picture(tmp_path / f'a{ending}').colour.shape == PHOTO.shape
    assert read_picture_header(tmp_path / f'a{ending}').size == PHOTO.shape[:2]
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.long
@pytest.mark.parametrize(('ending', 'options'), [('.png', {}), ('.tif', {'compression': 'tiff_adobe_deflate'})])
def test_200_megapixels(tmp_path, ending, options):
    pixels = np.zeros((10_050, 20_000), bool)
    pixels[5000, 7] = True
    Image.fromarray(pixels).save(tmp_path / f'a{ending}', **options)
    assert read_picture_header(tmp_path / f'a{ending}').size == (10_050, 20_000)
    limit = Image.MAX_IMAGE_PIXELS
    found = read_picture(tmp_path / f'a{ending}').colour
    assert limit == Image.MAX_IMAGE_PIXELS
    assert found.shape == (10_050, 20_000, 3)
    assert np.count_nonzero(found[:, :, 1]) == 1
    assert found[5000, 7, 1] == 255


def test_a_header_that_claims_more_than_the_memory_is_refused_at_once(tmp_path):
    header = struct.pack('>IIBBBBB', 2**20, 2**20, 8, 2, 0, 0, 0)
    content = chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'')) + chunk(b'IEND', b'')
    (tmp_path / 'a.png').write_bytes(b'\x89PNG\r\n\x1a\n' + content)
    with pytest.raises(PictureFileError, match=r'1048576x1048576 pixels, which need .* free; cut it'):
        read_picture(tmp_path / 'a.png')


def test_results_above_4_gigabytes_are_refused_by_what_holds_less():
    large = Picture(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)))
    for ending in ('.tif', '.bmp'):
        assert '4 GB' in what_ending_cannot_hold(large, ending, (40_000, 40_000))
    assert what_ending_cannot_hold(large, '.png', (40_000, 40_000)) is None
