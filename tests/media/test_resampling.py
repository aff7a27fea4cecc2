"""Resampling of results: no aliasing, 8 and 16 bits, transparency, any size."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from pdan_plugin.media import resampling
from pdan_plugin.media.picture import Picture
from pdan_plugin.media.resampling import resampled, resampled_picture

PHOTO = np.ascontiguousarray(data.astronaut()[60:201, 100:300])  # (141, 200, 3)


@pytest.mark.parametrize('size', [(70, 100), (141, 199), (33, 200), (300, 210), (1, 1)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_it_is_lanczos_as_pillow_computes_it_in_float(size, dtype, monkeypatch):
    monkeypatch.setattr(resampling, '_BAND', 20_000)  # several bands
    pixels = PHOTO.astype(dtype) * (257 if dtype == np.uint16 else 1)
    found = resampled(pixels, size)
    assert (found.shape, found.dtype) == ((*size, 3), dtype)
    for channel in range(3):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        expected = np.asarray(plane.resize(size[::-1], Image.Resampling.LANCZOS))
        expected = np.clip(np.rint(expected), 0, np.iinfo(dtype).max)
        assert np.abs(found[..., channel].astype(float) - expected).max() <= 1  # bands round the centres of pixels


def test_the_same_size_is_the_same_picture():
    assert resampled(PHOTO, (141, 200)) is PHOTO
    picture = Picture(PHOTO)
    assert resampled_picture(picture, (141, 200)) is picture


@pytest.mark.parametrize('period', [2, 3])
def test_stripes_finer_than_the_result_become_grey_and_no_coarser_stripes(period):
    stripes = np.where(np.arange(240) % period == 0, 255, 0).astype(np.uint8)
    found = resampled(np.tile(stripes, (30, 1)), (13, 100))[:, 8:-8]
    assert np.abs(found.astype(float) - 255 / period).max() < 3


def test_the_mean_is_kept_as_it_is_stored():
    """Not in linear light: black and white stripes become 128, not 188."""
    stripes = np.tile(np.array([[0, 255]], np.uint8), (40, 20))
    assert np.abs(resampled(stripes, (10, 10))[:, 2:-2].astype(int) - 128).max() <= 1


def test_a_grey_picture_stays_grey_and_16_bits_stay_fine():
    ramp = np.tile(np.linspace(0, 65535, 400).astype(np.uint16), (40, 1))
    found = resampled_picture(Picture(np.repeat(ramp[..., None], 3, axis=2), is_grey=True), (20, 200)).colour
    assert found.shape == (20, 200, 3)
    assert (found[..., 0] == found[..., 2]).all()
    inner = found[0, 5:-5, 0].astype(int)
    assert (np.diff(inner) > 320).all()  # 329 for each pixel: no steps of 8 bits
    assert (np.diff(inner) < 340).all()


def test_colours_count_by_their_opacity():
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[:, 0::2] = (255, 0, 0)
    colour[:, 1::2] = (0, 255, 0)
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 0::2] = 255
    alpha[:, 1::2] = 3  # nearly transparent green
    found = resampled_picture(Picture(colour, alpha), (20, 20))
    inner = found.colour[4:-4, 4:-4]
    assert inner[..., 0].min() > 245
    assert inner[..., 1].max() < 10
    assert np.abs(found.alpha[4:-4, 4:-4].astype(int) - 129).max() <= 2
    assert found.alpha.dtype == np.uint8


def test_an_opaque_edge_has_no_fringe_of_the_colour_behind():
    colour = np.full((40, 40, 3), 200, np.uint8)
    colour[:, 20:] = 0
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)[None].repeat(40, axis=0)
    found = resampled_picture(Picture(colour, alpha), (27, 27))
    visible = found.alpha > 12
    assert np.abs(found.colour[visible].astype(int) - 200).max() <= 2
    assert found.alpha[:, :11].min() > 240
    assert found.alpha[:, -8:].max() < 12
