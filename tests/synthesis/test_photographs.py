"""Photographs that clips are rendered from: every ending, and decoded by the reader of pictures."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

from pdan_plugin.errors import RequestError
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.synthesis.photographs import photographs_in, skimage_photographs

PHOTO = np.ascontiguousarray(data.astronaut()[:60, :80])


def test_planes_of_16_bits_and_names_that_are_not_utf_8(tmp_path):
    """OpenCV reads the planes as garbage, and crashes for the name."""
    deep = np.moveaxis(PHOTO.astype(np.uint16) * 257, -1, 0)
    tifffile.imwrite(tmp_path / 'planes.tif', np.ascontiguousarray(deep), photometric='rgb', planarconfig='separate')
    Image.fromarray(PHOTO).save(tmp_path / 'a.png')
    os.rename(tmp_path / 'a.png', os.path.join(tmp_path, os.fsdecode(b'caf\xe9.jfif')))
    Image.fromarray(PHOTO[::-1]).save(tmp_path / 'b.jpe', 'PNG')
    found = {each.path.suffix: each.read() for each in photographs_in(tmp_path, read_as_shown)}
    np.testing.assert_array_equal(found['.tif'], PHOTO[..., ::-1])
    np.testing.assert_array_equal(found['.jfif'], PHOTO[..., ::-1])
    np.testing.assert_array_equal(found['.jpe'], PHOTO[::-1, :, ::-1])


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / 'text.jpg').write_text('Dear reader,')
    (photograph,) = photographs_in(tmp_path, read_as_shown)
    with pytest.raises(RequestError, match=r'text\.jpg cannot be read as a picture \(cannot be decoded'):
        photograph.read()


def test_opencv_reads_those_of_scikit_image_alike():
    photograph = next(each for part in skimage_photographs() for each in part if each.path.name == 'coffee.png')
    np.testing.assert_array_equal(photograph.read(), read_as_shown(photograph.path)[..., ::-1])
