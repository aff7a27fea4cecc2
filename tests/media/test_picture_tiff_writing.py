"""TIFFs that are written: pixels, and EXIF with its tables, as other programs read them."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms
from skimage import data

from pdan_plugin.media.picture import Picture
from pdan_plugin.media.picture_files import read_picture
from pdan_plugin.media.picture_writing import what_ending_leaves_out, write_picture

PHOTO = np.ascontiguousarray(data.astronaut()[100:141, 200:230])
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def table(entries, start):
    """A table of EXIF at ``start``: its entries (tag, type, count, bytes), and behind them the values that are long."""
    place, long_values, lines = start + 2 + 12 * len(entries) + 4, b'', []
    for tag, kind, count, value in sorted(entries):
        stored = value if len(value) <= 4 else struct.pack('<I', place + len(long_values))
        long_values += b'' if len(value) <= 4 else value + bytes(len(value) % 2)
        lines.append(struct.pack('<HHI', tag, kind, count) + stored.ljust(4, b'\0'))
    return struct.pack('<H', len(entries)) + b''.join(lines) + bytes(4) + long_values


def camera_exif():
    """As every camera and telephone writes it: with a table for the camera, and one for the place."""
    text, byte, offset, fraction, undefined = 2, 1, 4, 5, 7
    title, described = 'title'.encode('utf-16-le'), 'café'.encode() + b'\0'
    main = [
        (0x010E, text, len(described), described),
        (0x010F, text, 6, b'Maker\0'),
        (0x9C9B, byte, len(title), title),
    ]
    camera = [
        (ExifTags.Base.DateTimeOriginal, text, 20, b'2024:01:01 00:00:00\0'),
        (ExifTags.Base.MakerNote, undefined, 101, bytes(range(101))),
    ]
    place = [(2, fraction, 3, struct.pack('<6I', 1, 1, 2, 1, 3, 1))]
    pointers = [(0x8769, offset, 1, bytes(4)), (0x8825, offset, 1, bytes(4))]
    begins = 8 + len(table(main + pointers, 8))
    ends = begins + len(table(camera, begins))
    pointers = [(0x8769, offset, 1, struct.pack('<I', begins)), (0x8825, offset, 1, struct.pack('<I', ends))]
    tables = table(main + pointers, 8) + table(camera, begins) + table(place, ends)
    return b'Exif\0\0II*\0' + struct.pack('<I', 8) + tables


def with_xmp(jpeg):
    """Adds XMP to a JPEG file, behind its first two bytes; Pillow writes it only since version 11."""
    segment = b'http://ns.adobe.com/xap/1.0/\0' + XMP
    content = jpeg.read_bytes()
    jpeg.write_bytes(content[:2] + b'\xff\xe1' + struct.pack('>H', len(segment) + 2) + segment + content[2:])


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('kind', ['rgb', 'grey', 'rgba', 'grey and alpha'])
def test_a_photograph_with_exif_becomes_a_tiff(tmp_path, kind, bits):
    """libtiff has no place for the tables of EXIF, and ended the writing, after all work."""
    Image.fromarray(PHOTO).save(tmp_path / 'in.jpg', exif=camera_exif(), icc_profile=SRGB, dpi=(300, 150))
    with_xmp(tmp_path / 'in.jpg')
    read = read_picture(tmp_path / 'in.jpg')
    is_grey, pixels = 'grey' in kind, PHOTO.astype(np.uint16) * 257 if bits == 16 else PHOTO
    colour = np.repeat(pixels[..., :1], 3, axis=2) if is_grey else pixels
    alpha = np.ascontiguousarray(pixels[..., 1]) if 'a' in kind.removeprefix('grey') else None
    profile = None if is_grey else read.icc_profile
    picture = Picture(colour, alpha, is_grey, profile, read.exif, read.dpi, xmp=read.xmp)
    assert what_ending_leaves_out(picture, '.tif') is None
    write_picture(tmp_path / 'out.tif', picture)

    channels = [colour[..., 0] if is_grey else colour, *([] if alpha is None else [alpha])]
    expected = channels[0] if len(channels) == 1 else np.dstack(channels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / 'out.tif'), expected)
    again = read_picture(tmp_path / 'out.tif')
    np.testing.assert_array_equal(again.colour, colour)
    assert again.notes == ()
    assert (again.dpi, again.xmp, again.icc_profile) == ((300.0, 150.0), XMP, profile)
    for exif in (again.exif, Image.open(tmp_path / 'out.tif').getexif() if bits == 8 else None):
        if exif is not None:
            check_exif(exif)


def check_exif(stored):
    exif = stored
    if isinstance(stored, bytes):
        exif = Image.Exif()
        exif.load(stored)
    assert exif[ExifTags.Base.Make].removesuffix('\0') == 'Maker'  # Pillow 9 keeps the end of a text
    assert exif[ExifTags.Base.ImageDescription].encode('latin-1').decode() == 'café'
    table = dict(exif.get_ifd(ExifTags.IFD.Exif))
    assert table[ExifTags.Base.DateTimeOriginal] == '2024:01:01 00:00:00'
    assert table[ExifTags.Base.MakerNote] == bytes(range(101))
    assert tuple(map(float, exif.get_ifd(ExifTags.IFD.GPSInfo)[2])) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize('ending', ['.png', '.jpg', '.webp', '.tif'])
def test_texts_of_exif_keep_their_bytes(tmp_path, ending):
    """Pillow writes a question mark for what is not ASCII."""
    Image.fromarray(PHOTO).save(tmp_path / 'in.jpg', exif=camera_exif())
    write_picture(tmp_path / f'out{ending}', read_picture(tmp_path / 'in.jpg'))
    check_exif(Image.open(tmp_path / f'out{ending}').getexif())
