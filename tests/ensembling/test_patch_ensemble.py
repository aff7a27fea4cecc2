"""Weights patch by patch, and the means they make."""

import numpy as np
import pytest
from skimage import data

from pdan_plugin.ensembling.patch_ensemble import patch_weights, plain_mean, weighted_mean
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS, luminance, tenengrad, variance


def noise(seed, shape=(50, 70, 3), strength=120):
    return np.random.default_rng(seed).integers(60, 60 + strength, shape).astype(np.uint8)


def flat(grey, shape=(50, 70, 3)):
    return np.full(shape, grey, np.uint8)


def test_a_share_is_the_models_part_of_the_scores():
    pictures = [noise(0, strength=100), noise(1, strength=20), noise(2, strength=50)]
    weights = patch_weights(pictures, tenengrad)
    assert weights.shape == (3, 4, 4)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    # the patch of row 1, column 2 of 50x70: rows 12 to 24, columns 35 to 51
    scores = [tenengrad(luminance(picture)[12:25, 35:52]) for picture in pictures]
    np.testing.assert_allclose(weights[:, 1, 2], np.array(scores) / sum(scores))
    assert (weights[0] > weights[2]).all()
    assert (weights[2] > weights[1]).all()


def test_hard_merge_is_the_weighted_mean_of_each_patch():
    pictures = [noise(0), noise(1, strength=30)]
    weights = patch_weights(pictures, variance, grid=2)
    merged = weighted_mean(pictures, weights)
    for row, rows in enumerate((slice(0, 25), slice(25, 50))):
        for column, columns in enumerate((slice(0, 35), slice(35, 70))):
            mean = sum(weights[k, row, column] * pictures[k][rows, columns] for k in range(2))
            np.testing.assert_array_equal(merged[rows, columns], np.rint(mean))


def test_blended_weights_meet_the_patches_at_their_centres_and_never_jump():
    pictures = [flat(0, (40, 60, 3)), flat(240, (40, 60, 3))]
    weights = np.zeros((2, 4, 4))
    weights[1] = np.arange(16).reshape(4, 4) / 15
    weights[0] = 1 - weights[1]
    hard = weighted_mean(pictures, weights).astype(int)
    blended = weighted_mean(pictures, weights, blend=True).astype(int)
    # patches are 10 rows by 15 columns; only the odd side has its centre on a pixel, the even one between rows 4 and 5
    for row in range(4):
        for column in range(4):
            centre = blended[10 * row + 4 : 10 * row + 6, 15 * column + 7, 0].mean()
            assert centre == pytest.approx(240 * weights[1, row, column], abs=3.3)
    assert np.abs(np.diff(hard, axis=0)).max() == 64
    assert np.abs(np.diff(blended, axis=0)).max() <= 7  # 64 levels over 10 rows
    assert np.abs(np.diff(blended, axis=1)).max() <= 2  # 16 levels over 15 columns
    assert (np.diff(blended, axis=0) >= 0).all()
    assert (blended[:4] == blended[0]).all()  # outside the outermost centres the weights stay


@pytest.mark.parametrize('blend', [False, True])
@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 9, 3), (3, 2, 3), (4, 4, 3), (13, 17, 3), (50, 70, 3)])
def test_any_size_and_a_picture_merged_with_itself_is_itself(shape, blend):
    picture = noise(3, shape)
    for function in FOCUS_FUNCTIONS.values():
        weights = patch_weights([picture] * 3, function)
        np.testing.assert_allclose(weights, 1 / 3)
        np.testing.assert_array_equal(weighted_mean([picture] * 3, weights, blend=blend), picture)


def test_where_nothing_is_sharp_the_shares_are_equal():
    """Flat patches; also patches whose every score is below zero, and a model that is flat beside one that is not."""
    for function in FOCUS_FUNCTIONS.values():
        np.testing.assert_array_equal(patch_weights([flat(10), flat(90)], function), 0.5)
    checks = np.repeat((np.indices((48, 48)).sum(axis=0) % 2 * 100).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(patch_weights([checks, 100 - checks], FOCUS_FUNCTIONS['vollath_f4']), 0.5)
    waves = np.repeat(np.tile(90 + 60 * np.sin(np.arange(48)), (48, 1)).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(patch_weights([checks, waves], FOCUS_FUNCTIONS['vollath_f4'])[0], 0)
    weights = patch_weights([flat(10), noise(0)], tenengrad)
    np.testing.assert_array_equal(weights[0], 0)
    np.testing.assert_array_equal(weighted_mean([flat(10), noise(0)], weights, blend=True), noise(0))


def test_means_are_rounded_once_and_hold_the_whole_range():
    # 3 * 85.33 and 2 * 42.67: rounding each share would give 84 or 86
    pictures = [flat(128), flat(128), flat(0)]
    np.testing.assert_array_equal(plain_mean(pictures), 85)
    np.testing.assert_array_equal(weighted_mean(pictures, np.full((3, 4, 4), 1 / 3)), 85)
    white = flat(255)
    np.testing.assert_array_equal(plain_mean([white] * 7), white)
    np.testing.assert_array_equal(weighted_mean([white] * 7, np.full((7, 4, 4), 1 / 7), blend=True), white)
    assert plain_mean(pictures).dtype == np.uint8


def test_the_sharper_half_wins_in_a_photograph():
    """Two copies, each blurred in one half: the merge is nearer to the truth than either and than their mean."""
    import cv2

    truth = data.astronaut()
    soft = cv2.GaussianBlur(truth, (0, 0), 3)
    left, right = truth.copy(), truth.copy()
    left[:, 256:], right[:, :256] = soft[:, 256:], soft[:, :256]

    def error(picture):
        return float(((picture.astype(float) - truth) ** 2).mean())

    weights = patch_weights([left, right], FOCUS_FUNCTIONS['energy_of_laplacian'])
    assert error(weighted_mean([left, right], weights)) < 0.5 * error(plain_mean([left, right])) < 0.5 * error(left)


def test_pictures_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match='one shape'):
        patch_weights([flat(0), flat(0, (50, 71, 3))], variance)
    with pytest.raises(ValueError, match='one shape'):
        plain_mean([])
    with pytest.raises(ValueError, match='expected weights'):
        weighted_mean([flat(0)], np.full((2, 4, 4), 0.5))
