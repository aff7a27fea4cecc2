"""The toolbox's SSIM is this package's, under every name."""

import numpy as np
from basicsr.metrics import calculate_metric, psnr_ssim

import pdan_plugin.metrics.structural_similarity as fixed


def test_the_registered_metric_is_the_fast_one_and_put_back(stock):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (40, 50, 3), np.uint8) for name in ('img', 'img2')}
    options = {'type': 'calculate_ssim', 'crop_border': 0}
    assert calculate_metric(images, options) == fixed.calculate_ssim(**images, crop_border=0)
    with stock():
        assert calculate_metric(images, options) == psnr_ssim.calculate_ssim(**images, crop_border=0)
        assert psnr_ssim.calculate_ssim is not fixed.calculate_ssim
    assert psnr_ssim.calculate_ssim is fixed.calculate_ssim
