"""The toolbox's degradations work with the installed OpenCV."""

import cv2
import numpy as np
import pytest
from basicsr.data import degradations
from skimage.data import astronaut


@pytest.fixture
def picture():
    """(48, 40, 3) BGR in [0, 1], float32, with some values outside."""
    crop = astronaut()[:48, 180:220, ::-1].astype(np.float32) / 255
    return crop * 1.1 - 0.05


@pytest.mark.parametrize('quality', [30, 30.9, np.float64(30.9), np.float32(30.9), np.int64(30)])
def test_jpeg_of_any_number_for_a_quality(picture, quality):
    """The pixels are those of OpenCV's own file of the rounded picture, with the quality cut off."""
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    encoded = cv2.imencode('.jpg', levels, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    expected = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    before = picture.copy()
    found = degradations.add_jpg_compression(picture, quality)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(picture, before)


def test_an_integer_quality_gives_what_the_published_function_gives(stock, picture):
    with stock():
        published = degradations.add_jpg_compression(picture, 70)
    np.testing.assert_array_equal(degradations.add_jpg_compression(picture, 70), published)


@pytest.mark.parametrize('seed', range(3))
def test_random_jpeg_is_drawn_from_its_range(picture, seed):
    np.random.seed(seed)  # noqa: NPY002 (the generator the toolbox draws from)
    quality = int(np.random.uniform(30, 95))  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    found = degradations.random_add_jpg_compression(picture, (30, 95))
    np.testing.assert_array_equal(found, degradations.add_jpg_compression(picture, quality))


@pytest.mark.parametrize(
    'degrade',
    [
        lambda picture: degradations.random_add_gaussian_noise(picture, (1, 30), 0.5, True, False),
        lambda picture: degradations.random_add_poisson_noise(picture, (0.05, 3), 0.5, True, False),
        lambda picture: degradations.random_add_jpg_compression(picture, (5, 10)),
        lambda picture: cv2.filter2D(picture, -1, degradations.random_mixed_kernels(['iso', 'aniso'], [0.5, 0.5], 21)),
    ],
)
def test_every_degradation_changes_the_picture(picture, degrade):
    picture = np.clip(picture, 0, 1)
    degraded = degrade(picture)
    assert degraded.shape == picture.shape
    assert 0.001 < np.abs(degraded - picture).mean() < 0.3
