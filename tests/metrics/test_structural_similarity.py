"""SSIM is the published toolbox's to a billionth for all its options; SSIM and PSNR are scikit-image's."""

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_metric, psnr_ssim
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import pdan_plugin.metrics.structural_similarity as fixed


@pytest.fixture(scope='module')
def pair():
    """A photograph and a blurred copy with noise, (h, w, 3) uint8; no side a multiple of a piece."""
    picture = np.ascontiguousarray(data.astronaut()[:231, :301])
    noise = np.random.default_rng(0).normal(0, 5, picture.shape)
    return picture, np.clip(cv2.GaussianBlur(picture, (0, 0), 1.2) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('kind', [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    'options',
    [
        {'crop_border': 0},
        {'crop_border': 4},
        {'crop_border': 0, 'test_y_channel': True},
        {'crop_border': 3, 'input_order': 'CHW'},
        {'crop_border': 3, 'input_order': 'CHW', 'test_y_channel': True, 'better': 'higher'},
    ],
)
def test_the_published_value(pair, stock, kind, options):
    pair = [each.astype(kind) for each in pair]
    if options.get('input_order') == 'CHW':
        pair = [each.transpose(2, 0, 1) for each in pair]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, **options)
    assert fixed.calculate_ssim(*pair, **options) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('channels', [None, 1, 2, 4])
@pytest.mark.parametrize('size', [(11, 11), (12, 150), (75, 11), (64 + 10, 128 + 10)])
def test_sizes_and_channels(pair, stock, size, channels):
    rows, columns = size
    if channels is None:
        pair = [each[:rows, :columns, 0] for each in pair]
    else:
        pair = [np.concatenate([each, each[..., :1]], axis=2)[:rows, :columns, :channels] for each in pair]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, crop_border=0)
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('levels', [(0, 255), (128, 129), (255, 255)])
def test_flat_pictures(stock, levels):
    """Where variances are rounding alone."""
    pair = [np.full((40, 50, 3), level, np.uint8) for level in levels]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, crop_border=0)
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)


def test_scikit_image_agrees(pair):
    """On colour frames as REDS's scores are made: all channels together, no border left out but where no window fits.

    scikit-image filters to the edge, over a mirrored border, and then leaves out the same five pixels of the map.
    """
    expected = structural_similarity(
        *pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)
    images = dict(zip(('img', 'img2'), pair, strict=True))
    psnr = calculate_metric(images, {'type': 'calculate_psnr', 'crop_border': 0})
    assert psnr == pytest.approx(peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)


def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(ValueError, match='11x11'):
        fixed.calculate_ssim(pair[0][:20], pair[1][:20], crop_border=5)
    with pytest.raises(AssertionError, match='different'):
        fixed.calculate_ssim(pair[0], pair[1][1:], crop_border=0)
    with pytest.raises(ValueError, match='input_order'):
        fixed.calculate_ssim(*pair, crop_border=0, input_order='WHC')
