"""Each focus function by hand and by a slow independent form, and what must not change its value."""

import cv2
import numpy as np
import pytest
from skimage import data

from pdan_plugin.metrics import sharpness
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS, luminance, patch_edges, patch_scores

SPOT = np.zeros((5, 5), np.float32)  # one pixel of 3 in the middle
SPOT[2, 2] = 3
STEP = np.repeat([[0.0, 0.0, 4.0, 4.0]], 4, axis=0)  # an upright edge


@pytest.fixture
def texture():
    return np.random.default_rng(0).uniform(20, 220, (13, 17)).astype(np.float32)


@pytest.mark.parametrize(
    ('name', 'spot', 'step'),
    [
        # rows: 5 lines of 3 differences over two columns, of which two are 3; the edge: all 8 across are 4, none down
        ('brenner', 2 * 9 / 15, (16 + 0) / 2),
        # Sobel around the spot: (3, 3) at 4 corners, 6 along one axis at 4 sides; the edge: 4 * 4 across everywhere
        ('tenengrad', (4 * 18 + 4 * 36) / 9, 256),
        # 20 once, -4 at 4 sides, -1 at 4 corners, times 3; the edge: 4 * (1 + 4 + 1) to either side
        ('energy_of_laplacian', 9 * (400 + 4 * 16 + 4) / 9, 24**2),
        # |2 * 3| both ways once, 3 one way at 4 sides; the edge: 4 across
        ('sum_modified_laplacian', (12 + 4 * 3) / 9, 4),
        ('variance', 9 / 25 - (3 / 25) ** 2, 4),
        ('normalised_variance', (9 / 25 - (3 / 25) ** 2) / (3 / 25), 2),
        # the edge, D = -2 -2 2 2: across 4 (1 - 1 + 1) / 3 + 4; down the variance at both distances
        ('vollath_f4', None, (4 / 3 + 4 + 0) / 2),
        # the spot: 9 where it is itself; to its left and above one factor is 0
        ('smd2', 9 / 16, 0),
    ],
)
def test_values_by_hand(name, spot, step):
    if spot is not None:
        assert FOCUS_FUNCTIONS[name](SPOT) == pytest.approx(spot)
    assert FOCUS_FUNCTIONS[name](STEP) == pytest.approx(step)


def test_formulas_pixel_by_pixel(texture):
    """The published sums, term by term, on a picture that is not square."""
    image = texture.astype(np.float64)
    height, width = image.shape
    inner = [(y, x) for y in range(1, height - 1) for x in range(1, width - 1)]
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    laplacian = np.array([[-1, -4, -1], [-4, 20, -4], [-1, -4, -1]])

    def around(y, x):
        return image[y - 1 : y + 2, x - 1 : x + 2]

    def vollath(lines):
        deviation = lines - lines.mean()
        near = [row[x] * row[x + 1] for row in deviation for x in range(len(row) - 1)]
        far = [row[x] * row[x + 2] for row in deviation for x in range(len(row) - 2)]
        return np.mean(near) - np.mean(far)

    def brenner(lines):
        return np.mean([(row[x + 2] - row[x]) ** 2 for row in lines for x in range(len(row) - 2)])

    expected = {
        'brenner': (brenner(image) + brenner(image.T)) / 2,
        'tenengrad': np.mean([(around(*p) * sobel).sum() ** 2 + (around(*p) * sobel.T).sum() ** 2 for p in inner]),
        'energy_of_laplacian': np.mean([(around(*p) * laplacian).sum() ** 2 for p in inner]),
        'sum_modified_laplacian': np.mean(
            [
                abs(2 * image[y, x] - image[y, x - 1] - image[y, x + 1])
                + abs(2 * image[y, x] - image[y - 1, x] - image[y + 1, x])
                for y, x in inner
            ]
        ),
        'variance': np.mean([(value - image.mean()) ** 2 for value in image.flat]),
        'normalised_variance': np.mean([(value - image.mean()) ** 2 for value in image.flat]) / image.mean(),
        'vollath_f4': (vollath(image) + vollath(image.T)) / 2,
        'smd2': np.mean(
            [
                abs(image[y, x] - image[y, x + 1]) * abs(image[y, x] - image[y + 1, x])
                for y in range(height - 1)
                for x in range(width - 1)
            ]
        ),
    }
    assert expected.keys() == FOCUS_FUNCTIONS.keys()
    for name, value in expected.items():
        assert FOCUS_FUNCTIONS[name](texture) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize('name', FOCUS_FUNCTIONS)
def test_what_leaves_a_value_as_it_is(name, texture):
    score = FOCUS_FUNCTIONS[name]
    value = score(texture)
    assert score(texture.T) == pytest.approx(value)
    assert score(texture.astype(np.float64)) == pytest.approx(value)
    if name != 'smd2':  # whose two neighbours are the right and the lower one
        assert score(texture[::-1]) == pytest.approx(value)
        assert score(np.rot90(texture)) == pytest.approx(value)
    brighter = score(texture + np.float32(30))
    if name == 'normalised_variance':
        assert brighter == pytest.approx(value * texture.mean() / (texture.mean() + 30))
    else:
        assert brighter == pytest.approx(value)
    power = 1 if name in ('sum_modified_laplacian', 'normalised_variance') else 2
    assert score(texture / 2) == pytest.approx(value / 2**power)


@pytest.mark.parametrize('name', FOCUS_FUNCTIONS)
@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (2, 2), (3, 3), (40, 30)])
def test_a_flat_picture_of_any_size_scores_nothing(name, shape):
    for grey in (0.0, 77.0, 76.245, 1 / 3):
        for dtype in (np.float32, np.float64):
            assert FOCUS_FUNCTIONS[name](np.full(shape, grey, dtype)) == 0


def test_noise_counts_against_vollath_f4_and_for_the_others():
    checks = (np.indices((20, 20)).sum(axis=0) % 2 * 100).astype(np.float32)
    scores = {name: score(checks) for name, score in FOCUS_FUNCTIONS.items()}
    assert scores.pop('vollath_f4') < 0
    assert scores.pop('brenner') == 0  # its two pixels are of one colour
    assert scores.pop('tenengrad') == 0  # as are Sobel's
    assert min(scores.values()) > 0


@pytest.mark.parametrize('wrong', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4))])
def test_what_is_no_luminance_picture_is_refused(wrong):
    for score in FOCUS_FUNCTIONS.values():
        with pytest.raises(ValueError, match='floating-point'):
            score(wrong)


def test_luminance_is_that_of_rgb():
    """And of one value for one colour, wherever the pixel lies: else rounding decides between two flat patches."""
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], np.uint8)
    np.testing.assert_allclose(luminance(picture)[0], [76.245, 149.685, 29.07, 18.15], rtol=1e-5)
    astronaut = data.astronaut()
    assert np.abs(luminance(astronaut) - cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)).max() <= 0.51
    assert np.ptp(luminance(np.full((50, 70, 3), [10, 90, 33], np.uint8))) == 0
    with pytest.raises(ValueError, match='uint8'):
        luminance(picture.astype(np.float32))


def test_patches_cover_every_pixel_once():
    assert patch_edges(12, 4).tolist() == [0, 3, 6, 9, 12]
    assert patch_edges(14, 4).tolist() == [0, 3, 7, 10, 14]
    assert patch_edges(3, 4).tolist() == [0, 1, 2, 3]
    assert patch_edges(1, 4).tolist() == [0, 1]
    picture = np.arange(35, dtype=np.float64).reshape(5, 7)
    sums = patch_scores(picture, lambda patch: float(patch.sum()), 4)
    assert sums.shape == (4, 4)
    assert sums.sum() == picture.sum()
    assert sums[0, 1] == picture[0:1, 1:3].sum()


def test_every_function_is_in_the_table():
    names = {'brenner', 'tenengrad', 'energy_of_laplacian', 'sum_modified_laplacian', 'variance'}
    assert set(FOCUS_FUNCTIONS) == names | {'normalised_variance', 'vollath_f4', 'smd2'}
    assert all(getattr(sharpness, name) is score for name, score in FOCUS_FUNCTIONS.items())
