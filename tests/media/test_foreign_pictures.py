"""Pictures as other programs leave them: pixels that end early, alpha that is none, more than one picture in a file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pdan_plugin.media.picture_files import PictureFileError, is_picture_file, read_picture

PHOTO = np.ascontiguousarray(data.astronaut()[100:140, 200:230])
RAMP = np.linspace(0, 255, 40 * 30).reshape(40, 30).astype(np.uint8)
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(pixels, bits, colour_type, *, interlaced=False, kept=1.0, end=b'IEND'):
    """A PNG made by hand, of which a part of the rows is kept; all its chunks are complete and sound."""

    def chunk(kind, content):
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))

    parts = [pixels[top::down, left::across] for left, top, across, down in PASSES] if interlaced else [pixels]
    rows = b''.join(b'\0' + row.astype(f'>u{bits // 8}').tobytes() for part in parts if part.size for row in part)
    header = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], bits, colour_type, 0, 0, interlaced)
    content = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
    content += chunk(b'IDAT', zlib.compress(rows[: round(len(rows) * kept)]))
    return content + (chunk(end, b'') if end else b'')


@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('bits', [8, 16])
def test_a_png_whose_pixels_end_early_is_refused_and_a_whole_one_is_read(tmp_path, bits, interlaced):
    """A decoder of 8 bits leaves the missing rows black and reports nothing."""
    pixels = PHOTO.astype(np.uint16) * (257 if bits == 16 else 1)
    path = tmp_path / 'a.png'
    path.write_bytes(png(pixels, bits, 2, interlaced=interlaced))
    np.testing.assert_array_equal(read_picture(path).colour, pixels)
    for kept, share in ((0.5, 50), (0.99, 99)):
        path.write_bytes(png(pixels, bits, 2, interlaced=interlaced, kept=kept))
        with pytest.raises(PictureFileError, match=rf'truncated: ({share}|{share - 1})% of its pixels are there'):
            read_picture(path)
    path.write_bytes(png(pixels, bits, 2, interlaced=interlaced, end=None))  # all pixels, but no last chunk
    np.testing.assert_array_equal(read_picture(path).colour, pixels)


def test_a_png_without_its_palette_is_refused(tmp_path):
    (tmp_path / 'a.png').write_bytes(png(RAMP, 8, 3))
    with pytest.raises(PictureFileError, match='its palette is missing'):
        read_picture(tmp_path / 'a.png')


@pytest.mark.parametrize('alpha_bits', [0, 8])
def test_a_tga_has_the_alpha_that_it_states(tmp_path, alpha_bits):
    """Of 32 bits without stated alpha the last 8 are unused, and often 0."""
    fourth = RAMP if alpha_bits else np.zeros_like(RAMP)
    header = struct.pack('<BBBHHBHHHHBB', 0, 0, 2, 0, 0, 0, 0, 0, 30, 40, 32, 0x20 | alpha_bits)
    (tmp_path / 'a.tga').write_bytes(header + np.dstack([PHOTO[..., ::-1], fourth]).tobytes())
    picture = read_picture(tmp_path / 'a.tga')
    np.testing.assert_array_equal(picture.colour, PHOTO)
    if alpha_bits:
        np.testing.assert_array_equal(picture.alpha, RAMP)
    else:
        assert picture.alpha is None


def jpeg(pixels=PHOTO, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'JPEG', quality=95, **options)
    return file.getvalue()


@pytest.mark.parametrize('progressive', [False, True])
def test_what_follows_a_jpeg_is_reported(tmp_path, progressive):
    path, whole = tmp_path / 'a.jpg', jpeg(progressive=progressive)
    shown = np.asarray(Image.open(io.BytesIO(whole)))
    video = b'\0\0\0\x18ftypmp42' + bytes(400)
    for behind, notes in (
        (b'', ()),
        (bytes(500), ()),
        (video, ('left out: the video of a motion photo behind it in the file',)),
        (jpeg(PHOTO[:8, :8]), ('left out: another picture behind it in the file',)),
    ):
        path.write_bytes(whole + behind)
        picture = read_picture(path)
        np.testing.assert_array_equal(picture.colour, shown)
        assert picture.notes == notes
    path.write_bytes(whole * 3)
    with pytest.raises(PictureFileError, match='as motion JPEG does; make it a video'):
        read_picture(path)


def test_further_pictures_of_a_camera_are_reported(tmp_path):
    first, *others = [Image.fromarray(each) for each in (PHOTO, PHOTO[:16, :16])]
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=others, quality=95)
    picture = read_picture(tmp_path / 'a.jpg')
    assert np.abs(picture.colour.astype(int) - PHOTO).mean() < 8
    assert picture.notes == ('left out: further pictures in the file, such as a preview, a gain map or the second eye',)


def photoshop(layers):
    """PHOTO as a PSD: so many layers of one pixel, and the picture of all of them."""
    record = struct.pack('>iiiiH', 0, 0, 1, 1, 3)
    record += b''.join(struct.pack('>hI', channel, 3) for channel in range(3))
    record += b'8BIMnorm\xff\0\0\0' + struct.pack('>III', 12, 0, 0) + bytes(4)
    body = struct.pack('>h', layers) + record * layers + b'\0\0\5' * 3 * layers
    body += bytes(len(body) % 2)
    sections = struct.pack('>III', 0, 0, len(body) + 8) + struct.pack('>I', len(body)) + body + bytes(4)
    header = b'8BPS' + struct.pack('>H6xHIIHH', 1, 3, 40, 30, 8, 3)
    return header + sections + bytes(2) + PHOTO.transpose(2, 0, 1).tobytes()


@pytest.mark.parametrize('layers', [1, 3])
def test_layers_are_no_animation(tmp_path, layers):
    (tmp_path / 'a.psd').write_bytes(photoshop(layers))
    picture = read_picture(tmp_path / 'a.psd')
    np.testing.assert_array_equal(picture.colour, PHOTO)
    assert any('layers' in note for note in picture.notes) == (layers > 1)


OTHERS = {
    'phone.heic': (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(50), 'it is HEIC; convert it'),
    'phone.jpg': (b'\0\0\0\x18ftypmif1\0\0\0\0mif1heic' + bytes(50), 'it is HEIC; convert it'),
    'new.jxl': (b'\xff\x0a' + bytes(50), 'it is JPEG XL; convert it'),
    'frame.exr': (b'v/1\1\2\0\0\0' + bytes(50), 'it is OpenEXR; convert it'),
    'error.png': (b'<!DOCTYPE HTML>\n<html><title>404</title>', 'it is a web page'),
    'pointer.png': (b'version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n', 'git lfs pull'),
    'packed.png': (b'PK\3\4' + bytes(50), 'it is a zip archive; unpack it'),
    'drawing.svg': (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'SVG drawing; convert it'),
    'noise.png': (bytes(range(200, 256)), 'it is not one, or its format is unknown'),
}


@pytest.mark.parametrize('name', OTHERS)
def test_a_file_that_is_something_else_is_named(tmp_path, name):
    content, said = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PictureFileError, match=said):
        read_picture(tmp_path / name)
    assert is_picture_file(tmp_path / name) == name.endswith(('.png', '.jpg'))


def test_a_picture_is_found_by_its_content_where_pillow_lacks_other_formats(tmp_path, monkeypatch):
    """A mock of Pillow before 9.5, which knows neither AVIF nor QOI: it raised a KeyError for every file."""
    Image.init()
    for name in ('AVIF', 'QOI'):
        monkeypatch.delitem(Image.OPEN, name, raising=False)
    Image.new('RGB', (8, 6)).save(tmp_path / 'a', 'PPM')
    (tmp_path / 'b').write_bytes(b'no picture')
    assert is_picture_file(tmp_path / 'a')
    assert not is_picture_file(tmp_path / 'b')
